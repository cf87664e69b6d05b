"""Who may come in: origins and hosts."""
