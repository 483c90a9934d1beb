"""``mergenode demo``: the whole story on real data."""

from __future__ import annotations

from pathlib import Path

import click

from mergenode.errors import UsageError

WIDTH = 120
"""Columns of the tables when the output is no terminal."""


@click.command(epilog="\b\nExamples:\n  mergenode demo --output ./demo-output\n  mergenode demo --peers")
@click.option(
    "--output", default=None, type=click.Path(path_type=Path),
    help="Directory for everything the demo leaves; an earlier demo in it is replaced. If left out: demo-output, or "
    "demo-peers-output with --peers.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the node running at the end, until Ctrl-C; not with --peers.")
@click.option("--peers", is_flag=True, help="The other story: nodes that train, exchange models and mix them.")
def demo(output: Path | None, keep: bool, peers: bool) -> None:
    """Train six fine-tunes on real digits, fold them by a real node, kill it in between, check the result.

    Takes under two minutes on two cores and downloads nothing; needs the extra `mergenode[demo]`. Leaves checkpoints,
    versions, state, log, accuracy.png and results.json.

    With --peers: five nodes in a ring train on their own parts of Fashion-MNIST and mix their models, one is killed,
    two are cut off, and three others end with the same model. Under five minutes; leaves peers.png and results.json.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if console.width < WIDTH and not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=WIDTH)
    if peers:
        from mergenode.demo.peers.play import play_peers

        if keep:
            raise UsageError("--keep is not for --peers", hint="Its nodes can be started again: mergenode run -c ...")
        play_peers(output or Path("demo-peers-output"), console)
        return
    from mergenode.demo.play import play

    play(output or Path("demo-output"), console, keep=keep)
