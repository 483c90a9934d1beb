"""Other nodes: what is held for them, how it travels, and what comes back as the port ``Exchange``."""
