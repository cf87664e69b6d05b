"""What observers see: cursors, events, the fold that adds them up, and the replay that lets them resume."""
