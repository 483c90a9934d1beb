"""``mergenode commit``: what a pusher calls when the last byte of a checkpoint is written."""

from __future__ import annotations

import math
from pathlib import Path

import click

from mergenode.cli.progress import TerminalProgress
from mergenode.errors import UsageError
from mergenode.ports.observer import Progress
from mergenode.types import LARGEST_FACTOR


@click.command()
@click.argument("checkpoint", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--weight", type=float, default=1.0, show_default=True, help="Factor of this contribution when folded.")
@click.option(
    "--profile",
    "factors",
    multiple=True,
    metavar="PATTERN=FACTOR",
    help="Factor of the weight for tensors of this name; repeatable, 0 leaves them out.",
)
@click.option(
    "--base", type=click.Path(path_type=Path), help="The base it was tuned from; nodes of another base then refuse it."
)
@click.option("--progress/--no-progress", default=None, help="Draw a progress bar (default: on a terminal).")
def commit(checkpoint: Path, weight: float, factors: tuple[str, ...], base: Path | None, progress: bool | None) -> None:
    """Mark the checkpoint DIR (or a bare .safetensors file) as complete, with its content digest.

    A node takes a marked checkpoint at once instead of waiting until it stays unchanged, and rejects it when
    what it reads is not what was marked. Calling it again after a change replaces the marker.

    \b
    Example:
      cp -r my-finetune /srv/inbox/ && mergenode commit /srv/inbox/my-finetune
    """
    if not (math.isfinite(weight) and weight > 0):
        raise UsageError(f"--weight is {weight}, it must be finite and greater than zero")
    if not checkpoint.exists():
        raise UsageError(f"{checkpoint}: no such checkpoint", hint="name a checkpoint directory or a .safetensors file")
    if base is not None and not base.exists():
        raise UsageError(f"{base}: no such checkpoint", hint="name the base with --base, or leave it out")
    profile = profile_of(factors)
    from mergenode.adapters.checkpoints.digest import content_digest
    from mergenode.adapters.checkpoints.regular_file import trusted_root
    from mergenode.adapters.registries.marker import write_marker

    with TerminalProgress(progress) as bars:

        def shown(done: int, total: int) -> None:
            bars.progress(Progress("hash", checkpoint.name, 0, 0, done, total))

        content = content_digest(checkpoint, progress=shown)
        tuned_from = content_digest(base, root=trusted_root(base), progress=shown) if base is not None else None
    marker = write_marker(checkpoint, content=content, weight=weight, base=tuned_from, profile=profile)
    click.echo(f"{marker}: {content}")


def profile_of(factors: tuple[str, ...]) -> dict[str, float]:
    """``PATTERN=FACTOR`` as a mapping. Raises UsageError."""
    profile: dict[str, float] = {}
    for text in factors:
        pattern, sign, factor = text.rpartition("=")
        try:
            number = float(factor)
        except ValueError:
            number = math.nan
        if not (pattern and sign and 0 <= number <= LARGEST_FACTOR):
            raise UsageError(
                f"--profile {text!r} is not PATTERN=FACTOR with a factor from 0 to {LARGEST_FACTOR:.0f}",
                hint="For example --profile '*.layers.0.*=0.5' or --profile 'lm_head.*=0'.",
            )
        profile[pattern] = number
    return profile
