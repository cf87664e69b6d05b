"""Sessions: what a conversation keeps, and the port that keeps it."""
