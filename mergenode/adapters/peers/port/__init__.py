"""The gRPC port: server, channels, refusals, the calls of operators."""
