"""Background processes: what a session may see of them."""
