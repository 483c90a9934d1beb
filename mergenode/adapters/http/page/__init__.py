"""The status page: one HTML document without scripts, made of committed facts and of what the node is doing."""
