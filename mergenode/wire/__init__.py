"""What travels between nodes: blocks, manifests, deltas, signed heads, the state of a transfer. No network."""
