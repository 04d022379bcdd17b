"""A finished session as a log line, and the few other events an operator wants to read."""
