"""Background processes: durable work that outlives the turn which began it, its log, and who sees and runs it."""
