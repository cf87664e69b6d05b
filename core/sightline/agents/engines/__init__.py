"""Engines for kinds of processes beyond functions: commands of the system, and turns of other sessions."""
