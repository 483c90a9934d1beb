"""The ``mergenode`` command: the overview, the version, and nothing heavy."""

from __future__ import annotations

import click

from mergenode import __version__
from mergenode.cli.failures import USAGE
from mergenode.cli.lazy import LazyGroup

COMMANDS = {
    "run": "Run a node: watch, fold, publish, forever (or --once).",
    "merge": "Merge checkpoints once, in the given order.",
    "combine": "Make one state of the states of two nodes.",
    "commit": "Mark a checkpoint as complete, with its digests.",
    "sign": "Vouch for a checkpoint with your key.",
    "keygen": "Make a key to sign checkpoints with.",
    "push": "Hand a checkpoint to a node over the network.",
    "refine": "Train a merge to agree with its models, without data.",
    "sidecar": "Write what its data says beside a checkpoint.",
    "ingest": "Ask a node to take a checkpoint now.",
    "advise": "Which merge method to take.",
    "plan": "Disk and memory that a node takes at most.",
    "status": "What is in the merge, what waits, what was rejected.",
    "history": "The facts of the ledger, newest last.",
    "show": "Everything about one contribution or version.",
    "trace": "The life of one contribution, with times.",
    "pool": "What was chosen of the pool, and why.",
    "diff": "What changed between two versions.",
    "retract": "Take a contribution out of the merge.",
    "quarantine": "What gates held back; let it go, or drop it.",
    "release": "Let a contribution out of quarantine.",
    "rollback": "Take the merge back to an earlier version.",
    "verify": "Check digests and the ledger, or replay everything.",
    "certs": "Make certificates and tokens for a trial.",
    "peers": "Other nodes: state, lag, distance, refusals.",
    "config": "Check a settings file, print the schema.",
    "task": "Try the code that knows your model and data.",
    "demo": "The whole story on real data, in under two minutes.",
}

EPILOG = """\b
Examples:
  mergenode run -c node.yaml
  mergenode merge --base ./base --output ./merged ./a ./b
  mergenode status -c node.yaml --json

Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""


@click.group("mergenode", cls=LazyGroup, lazy=COMMANDS, invoke_without_command=True, epilog=EPILOG)
@click.option("--version", is_flag=True, help="Print the version; with --verbose also what it runs on.")
@click.option("--verbose", is_flag=True, help="With --version: Python, torch, BLAS, processor, packages.")
@click.pass_context
def cli(ctx: click.Context, version: bool, verbose: bool) -> None:
    """Fold a stream of fine-tuned checkpoints into one always-fresh merged model."""
    if version:
        click.echo(f"mergenode {__version__}")
        if verbose:
            from mergenode.cli.surroundings import surroundings

            for name, value in surroundings().items():
                click.echo(f"{name}: {value}")
        ctx.exit()
    if verbose:
        raise click.UsageError("--verbose belongs to --version", ctx=ctx)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)
