"""One module a command; a command is imported only when it is called."""
