"""One module a command. `group` knows them all, and imports one only when it is called.

Nothing is imported here: ``tfo-proxy healthcheck``, which is started anew every few seconds, passes through.
"""
