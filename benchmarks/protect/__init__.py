"""What a veto by Fisher is worth, on a small network with two skills."""
