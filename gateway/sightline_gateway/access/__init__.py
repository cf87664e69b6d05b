"""Who may come in, and what they may cost before it is known what they want."""
