"""``python -m mergenode`` and the ``mergenode`` script."""

from __future__ import annotations

from mergenode.cli.root import cli


def main() -> None:
    """Run the command line of this process; always ends in ``SystemExit``."""
    cli.main(prog_name="mergenode")


if __name__ == "__main__":
    main()
