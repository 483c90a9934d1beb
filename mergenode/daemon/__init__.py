"""One checkpoint, one straight line; the loop around it; start and stop."""
