"""Other nodes and pushing teams, by gRPC: who they are, what they may do, and the port that they call."""
