"""How long the status page takes of a node with a long history."""
