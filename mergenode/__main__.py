"""``python -m mergenode`` and the ``mergenode`` script."""

from __future__ import annotations

import gc

from mergenode.cli.root import cli

_GENERATION_SIZES = 50_000, 20, 20


def main() -> None:
    """Run the command line of this process; always ends in ``SystemExit``."""
    # Importing torch makes a million objects that all stay: collecting among them costs a third of a second.
    gc.set_threshold(*_GENERATION_SIZES)
    cli.main(prog_name="mergenode")


if __name__ == "__main__":
    main()
