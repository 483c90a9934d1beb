"""Everything that touches the outside: files, databases, sockets, vendor libraries. Strangers per port."""
