"""``python -m mergenode`` and the ``mergenode`` script."""

from __future__ import annotations

import gc
import os

from mergenode.cli.root import cli

_GENERATION_SIZES = 50_000, 20, 20


def main() -> None:
    """Run the command line of this process; always ends in ``SystemExit``."""
    # Importing torch makes a million objects that all stay: collecting among them costs a third of a second.
    gc.set_threshold(*_GENERATION_SIZES)
    # Read when grpc is loaded, by whatever command. Processes are spawned here, never forked; and whoever reaches the
    # port could fill standard error with a line per failed handshake. What is set already stays.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    cli.main(prog_name="mergenode")


if __name__ == "__main__":
    main()
