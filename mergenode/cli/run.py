"""``mergenode run``: the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mergenode.cli.failures import FAILED
from mergenode.settings import load_settings


@click.command(epilog="\b\nExample:\n  mergenode run -c node.yaml --once")
@click.option("-c", "--config", "config", required=True, type=click.Path(path_type=Path), help="The settings file.")
@click.option("--once", is_flag=True, help="Fold what is there, publish, end; exit 1 when something was left undone.")
def run(config: Path, once: bool) -> None:
    """Watch the registries, fold what arrives, publish every new version; until stopped, or --once.

    SIGTERM finishes the work in hand within shutdown.drain_seconds, a second one stops now, SIGHUP looks again.
    """
    settings = load_settings(config)
    from mergenode.adapters.observers.log import configure_logging
    from mergenode.bootstrap.node import run_node

    configure_logging(settings.log.format, settings.log.level, sys.stderr)
    stop = run_node(settings, once=once)
    if once and not stop.complete:
        raise SystemExit(FAILED)
