"""Where versions become visible."""
