"""Everything that touches the outside: files, databases, sockets, vendor libraries. Strangers to each other per port."""
