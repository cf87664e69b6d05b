"""Turns: what an agent gets, how its work is committed, and the driver that takes a turn from claim to commit."""
