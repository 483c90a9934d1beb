"""``mergenode run``: the daemon."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from mergenode.cli.failures import FAILED
from mergenode.settings import load_settings


@click.command(epilog="\b\nExample:\n  mergenode run -c node.yaml --once")
@click.option("-c", "--config", "config", required=True, type=click.Path(path_type=Path), help="The settings file.")
@click.option("--once", is_flag=True, help="Fold what is there, publish, end; exit 1 when something was left undone.")
def run(config: Path, once: bool) -> None:
    """Watch the registries, fold what arrives, publish every new version; until stopped, or --once.

    SIGTERM finishes the work in hand within shutdown.drain_seconds, a second one stops now, SIGHUP reads the settings
    again and looks at the registries.
    """
    with _stoppable():
        settings = load_settings(config)
        from mergenode.adapters.observers.log import configure_logging
        from mergenode.bootstrap.node import run_node

        configure_logging(settings.log.format, settings.log.level, sys.stderr)
        stop = run_node(settings, once=once, config=None if once else config)
    if once and not stop.complete:
        raise SystemExit(FAILED)


@contextmanager
def _stoppable() -> Iterator[None]:
    """A SIGTERM that comes before the node can be asked to stop ends it, with nothing begun.

    The system does that by itself, but not for process 1 of a container: there a signal without a handler is lost, and
    a pod that is deleted while torch is loaded would be waited for until its grace period ends. No exception: what is
    imported here has handlers that swallow any.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        os._exit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
