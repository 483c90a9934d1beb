"""``mergenode demo``: the whole story on real data."""

from __future__ import annotations

from pathlib import Path

import click

WIDTH = 120
"""Columns of the tables when the output is no terminal."""


@click.command(epilog="\b\nExample:\n  mergenode demo --output ./demo-output")
@click.option(
    "--output", default="demo-output", show_default=True, type=click.Path(path_type=Path),
    help="Directory for everything the demo leaves; an earlier demo in it is replaced.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the node running at the end, until Ctrl-C.")
def demo(output: Path, keep: bool) -> None:
    """Train six fine-tunes on real digits, fold them by a real node, kill it in between, check the result.

    Takes under two minutes on two cores and downloads nothing; needs the extra `mergenode[demo]`. Leaves checkpoints,
    versions, state, log, accuracy.png and results.json.
    """
    from rich.console import Console

    from mergenode.demo.play import play

    console = Console(highlight=False, markup=False, emoji=False)
    if console.width < WIDTH and not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=WIDTH)
    play(output, console, keep=keep)
