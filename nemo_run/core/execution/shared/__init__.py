"""What engines share that have nothing else in common."""
