"""``mergenode keygen``: a key to sign checkpoints with."""

from __future__ import annotations

from pathlib import Path

import click

from mergenode.cli.output import json_option, print_json
from mergenode.errors import UsageError


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--show", is_flag=True, help="Make none; print the public key of the one in FILE.")
@click.option("--force", is_flag=True, help="Make a new key in place of the one that is there.")
@json_option
def keygen(file: Path, show: bool, force: bool, as_json: bool) -> None:
    """Make a private key in FILE, for you alone, and print its public key for `gates.signature.keys` of nodes.

    It has no passphrase: whoever reads FILE can sign as you.

    \b
    Example:
      mergenode keygen ~/.mergenode-key.pem
    """
    if show and force:
        raise UsageError("--show makes no key and --force makes one", hint="Leave one of them out.")
    from mergenode.adapters.signatures.keys import load_key, make_key, word_of

    key = load_key(file) if show else make_key(file, force=force)
    word = word_of(key.public_key())
    if as_json:
        print_json({"file": str(file), "key": word})
        return
    click.echo(word)
