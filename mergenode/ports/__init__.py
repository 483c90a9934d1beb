"""Protocols between the daemon and the outside world, with their error contracts."""
