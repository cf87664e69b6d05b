"""The durable turn queue: batches of work, who may take which, and the runner that sees that somebody does."""
