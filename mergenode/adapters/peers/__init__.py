"""Other nodes and pushing teams, by gRPC."""
