"""Nouns: what the proxy knows and decides. Pure: no I/O, no logging, and time is an argument called ``now``."""
