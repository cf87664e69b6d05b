"""Streams: one feed of frames, three transports."""
