"""What a long run needs, and no mathematics: options, run folders, checkpoints, several processes, plots."""
