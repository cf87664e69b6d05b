"""The HTTP resources: one module each parses, calls the kernel, answers."""
