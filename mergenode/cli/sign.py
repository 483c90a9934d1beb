"""``mergenode sign``: who vouches for a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from mergenode.cli.output import json_option, print_json
from mergenode.cli.progress import TerminalProgress
from mergenode.errors import UsageError
from mergenode.ports.observer import Progress


@click.command()
@click.argument("checkpoint", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--key", "key_file", required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="Your private key, see `mergenode keygen`.")  # fmt: skip
@click.option("--progress/--no-progress", default=None, help="Draw a progress bar (default: on a terminal).")
@json_option
def sign(checkpoint: Path, key_file: Path, progress: bool | None, as_json: bool) -> None:
    """Sign the checkpoint MODEL, so that nodes which trust your key know that it comes from you.

    The signature lies beside the weights and covers them, the configuration and side-cars. Sign before the
    checkpoint is committed or pushed; sign again after any change.

    \b
    Example:
      mergenode keygen ~/.mergenode-key.pem
      mergenode sign ./my-finetune --key ~/.mergenode-key.pem
    """
    if not checkpoint.exists():
        raise UsageError(f"{checkpoint}: no such checkpoint", hint="name a checkpoint directory or a .safetensors file")
    from mergenode.adapters.signatures.keys import load_key, word_of
    from mergenode.adapters.signatures.signing import sign_checkpoint

    key = load_key(key_file)
    with TerminalProgress(progress) as bars:

        def shown(done: int, total: int) -> None:
            bars.progress(Progress("hash", checkpoint.name, 0, 0, done, total))

        written = sign_checkpoint(checkpoint, key, shown)
    word = word_of(key.public_key())
    if as_json:
        print_json({"signature": str(written), "key": word})
        return
    click.echo(f"{written}: signed with {word}")
