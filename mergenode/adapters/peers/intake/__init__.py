"""What teams push to this node."""
