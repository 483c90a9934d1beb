"""Other nodes and pushing teams, by gRPC: who they are, what they may do, and the port that they call."""

from __future__ import annotations

import os

# Read when grpc is loaded. Processes are spawned here, never forked; and whatever can reach the port could fill
# standard error with a line per failed handshake. Set by hand, both stay as they are.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
