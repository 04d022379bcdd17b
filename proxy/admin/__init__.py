"""The admin address: what the program says of itself, to people and machines, and what it may be told.

It lives in the process of the supervisor and is built so that nothing that is sent to it can hurt a session: every
connection has its own catch-all, its limits and its clock.
"""
