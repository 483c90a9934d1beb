"""``mergenode release``: the short form of ``mergenode quarantine release``."""

from __future__ import annotations

import click

from mergenode.cli.quarantine import release as _release

release = click.Command(
    "release", params=_release.params, callback=_release.callback, short_help=_release.short_help,
    help=_release.help, epilog='\b\nExample:\n  mergenode release my-finetune -c node.yaml --why "looked at it"',
)  # fmt: skip
