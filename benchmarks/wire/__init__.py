"""What a model costs between two nodes: bytes, and CPU to describe, encode and decode it."""
