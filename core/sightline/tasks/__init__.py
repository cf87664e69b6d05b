"""Background tasks: what goes on beside the turns of a session, and what the session lists of it."""
