"""Agents that come with the kernel, and how others are found."""
