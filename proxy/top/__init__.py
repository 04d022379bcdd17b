"""`tfo-proxy top`: what the proxy's page shows, on a terminal.

`seen` asks the admin, `choice` is what its user wants to look at, `picture` draws it with rich, `terminal` puts it on
the screen and gives the screen back, whatever happens.
"""
