"""One connection, from accepted to accounted for: `session` is where the stages meet."""
