"""Adapters: where sessions, work and the live log are kept. They hold no policy; the rules decide."""
