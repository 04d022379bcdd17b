"""Verbs: one room a stage, on raw non-blocking sockets under trio. No logging, no configuration files."""
