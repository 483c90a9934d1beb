"""``mergenode push``: hand a checkpoint or adapter to a node over the network, and learn what became of it."""

from __future__ import annotations

import math
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.commit import profile_of
from mergenode.cli.failures import FAILED, tell
from mergenode.cli.output import json_option, percent_text, print_json, visible
from mergenode.cli.progress import TerminalProgress
from mergenode.errors import UsageError
from mergenode.ports.observer import Progress
from mergenode.sizes import bytes_text
from mergenode.tracing.ids import SHORT_DIGITS

if TYPE_CHECKING:
    from mergenode.adapters.peers.pushing.push_channel import PushCredentials
    from mergenode.adapters.peers.pushing.pushing import PushOrder, PushReport

SCHEMA = "mergenode.push/1"
SERVICE = "mergenode-push"
"""What a push is called among the services of a trace; it is exported where the environment names a collector."""

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", metavar="MODEL", type=_PATH)
@click.option("--to", "address", required=True, metavar="HOST:PORT", help="The gRPC port of a node.")
@click.option("--name", help="Name of the contribution (default: that of the directory or file).")
@click.option("--lineage", default="mergenode", show_default=True, help="Name of the exchange: peers.lineage there.")
@click.option("--weight", type=float, default=1.0, show_default=True, help="Factor of this contribution when folded.")
@click.option(
    "--profile",
    "factors",
    multiple=True,
    metavar="PATTERN=FACTOR",
    help="Factor of the weight for tensors of this name; repeatable, 0 leaves them out.",
)
@click.option("--base", type=_PATH, help="The base it was tuned from; a node of another base then refuses it.")
@click.option("--tls-cert", type=_PATH, help="Your certificate, PEM.")
@click.option("--tls-key", type=_PATH, help="Its private key, PEM.")
@click.option("--tls-ca", type=_PATH, help="Certificates that the node's own has to be signed by, PEM.")
@click.option("--token-file", type=_PATH, help="A token instead of a certificate.")
@click.option("--insecure", is_flag=True, help="No TLS although the node is not on this machine.")
@click.option("--wait", is_flag=True, help="Wait until it is folded; exit 1 when it is not going to be.")
@click.option("--progress/--no-progress", default=None, help="Draw a progress bar (default: on a terminal).")
@json_option
def push(
    model: Path, address: str, name: str | None, lineage: str, weight: float, factors: tuple[str, ...],
    base: Path | None, wait: bool, progress: bool | None, as_json: bool, **connection: Any,
) -> None:  # fmt: skip
    """Push the checkpoint, .safetensors file or PEFT adapter MODEL to a node.

    Nothing is sent that the node has already. A push that was interrupted goes on where it was when it is
    started again, and one that is complete answers at once.

    \b
    Examples:
      mergenode push ./my-finetune --to 127.0.0.1:50051 --wait
      mergenode push ./adapter --to merge.example.org:50051 --tls-ca ca.pem --token-file token

    JSON: schema, name, outcome (accepted, duplicate, rejected, quarantined, not_selected), folded, share_kept,
    score, reason, message, hint, trace_id, upload, root, bytes_total, bytes_sent, blocks, blocks_sent, notes.
    """
    _check(model, base, weight)
    from mergenode.adapters.peers.pushing.push_channel import PushCredentials, push_address

    credentials = PushCredentials(
        certificate=connection["tls_cert"], key=connection["tls_key"], authority=connection["tls_ca"],
        token=connection["token_file"], insecure=connection["insecure"],
    )  # fmt: skip
    name = name or (model.absolute().name.removesuffix(".safetensors"))
    with TerminalProgress(progress) as bars:
        order = _order(name, lineage, weight, profile_of(factors), base, bars)
        report, notes = _pushed(model, order, push_address(address), credentials, wait, bars)
    _tell_outcome(order.name, report, notes, as_json)


def _check(model: Path, base: Path | None, weight: float) -> None:
    if not (math.isfinite(weight) and weight > 0):
        raise UsageError(f"--weight is {weight}, it must be finite and greater than zero")
    for path, hint in ((model, "name a checkpoint directory or a .safetensors file"), (base, "name the base's path")):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: no such checkpoint", hint=hint)


def _order(
    name: str, lineage: str, weight: float, profile: dict[str, float], base: Path | None, bars: TerminalProgress
) -> PushOrder:
    from mergenode.adapters.checkpoints.digest import content_digest
    from mergenode.adapters.checkpoints.regular_file import trusted_root
    from mergenode.adapters.peers.pushing.pushing import PushOrder

    digest = None
    if base is not None:

        def shown(done: int, total: int) -> None:
            bars.progress(Progress("hash", "base", 0, 0, done, total))

        digest = content_digest(base, root=trusted_root(base), progress=shown)
    return PushOrder(name=name, lineage=lineage, weight=weight, profile=profile, base=digest)


def _pushed(
    path: Path, order: PushOrder, address: str, credentials: PushCredentials, wait: bool, bars: TerminalProgress
) -> tuple[PushReport, tuple[str, ...]]:
    from mergenode.adapters.clock import SystemClock
    from mergenode.adapters.peers.pushing.local_model import describe_model
    from mergenode.adapters.peers.pushing.push_channel import channels_to, is_loopback, token_metadata
    from mergenode.adapters.peers.pushing.pushing import Pushing
    from mergenode.bootstrap.tracing import open_tracing
    from mergenode.settings.tracing import TracingSettings

    channels, metadata = channels_to(address, credentials), token_metadata(credentials)

    def hashed(done: int, total: int) -> None:
        bars.progress(Progress("hash", order.name, 0, 0, done, total))

    def sent(done: int, total: int) -> None:
        bars.progress(Progress("push", order.name, 0, 0, done, total))

    with (
        describe_model(path, hashed) as model,
        open_tracing(TracingSettings(), SERVICE, order.name, lambda text: bars.message("warning", text)) as tracer,
    ):
        for note in model.notes:
            bars.message("warning", note)
        pushing = Pushing(
            model, order, channels, address=address, clock=SystemClock(), pause=threading.Event().wait,
            metadata=metadata, compress=not is_loopback(address), watch=sent,
            tell=lambda text: bars.message("warning", text), tracer=tracer,
        )  # fmt: skip
        report = pushing.push()
        return pushing.wait(report) if wait else report, model.notes


def _tell_outcome(name: str, report: PushReport, notes: tuple[str, ...], as_json: bool) -> None:
    from mergenode.adapters.peers.pushing.pushing import LEFT_OUT

    left_out = report.outcome in LEFT_OUT
    if as_json:
        print_json({"schema": SCHEMA, "name": name, **asdict(report), "notes": list(notes)})
    elif left_out:
        tell(f"{name} was {report.outcome.replace('_', ' ')}: {report.reason}: {report.message}", report.hint)
    else:
        click.echo(visible(sentence(name, report)))
    if left_out:
        raise SystemExit(FAILED)


def sentence(name: str, report: PushReport) -> str:
    """What became of a push that was not left out."""
    sent = f"{bytes_text(report.bytes_sent)} sent of {bytes_text(report.bytes_total)}"
    kept = "" if report.share_kept is None else f"; {percent_text(report.share_kept)} of it survived the merge"
    if report.outcome == "duplicate":
        return f"{name}: duplicate, {report.message or 'its content is there already'}{kept} ({sent})"
    if report.folded:
        return f"{name}: folded{kept} ({sent}, trace {report.trace_id[:SHORT_DIGITS]})"
    return f"{name}: accepted, it waits to be folded ({sent}, trace {report.trace_id[:SHORT_DIGITS]})"
