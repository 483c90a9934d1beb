"""What a node is doing now, composed: the answer of its HTTP port, or what its state directory shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mergenode.adapters.engines.local.unfinished import unfinished_work
from mergenode.adapters.http.asking import NoAnswer, address_text, ask_status
from mergenode.adapters.peers.weights.unfinished import unfinished_transfers
from mergenode.adapters.store.lock import read_lock
from mergenode.settings import Settings

SHELF = "shelf"
ANSWER_SECONDS = 3.0
API, FILES = "api", "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a node does, as documents of ``Activity``. ``source``: ``api``, or ``files``, which know no rates.

    ``address``: that was asked, None: there is none to ask. ``problem``: why a node that runs was not heard.
    ``status``: its whole status document, where it answered.
    """

    node: str
    running: bool
    pid: int | None
    activities: Sequence[dict[str, Any]]
    source: str
    address: str | None = None
    problem: str = ""
    status: dict[str, Any] | None = None


def look(settings: Settings, *, seconds: float = ANSWER_SECONDS) -> Seen:
    """One look at the node of these settings, which may run in another process, or not at all. Takes no lock."""
    owner = read_lock(settings.node.state)
    running = owner is not None and owner.held
    at = settings.http.address
    address = address_text(*at) if at is not None and at[1] else None
    pid = owner.pid if owner is not None and running else None
    problem = ""
    if running:
        try:
            status = _asked(settings, seconds)
        except NoAnswer as error:
            problem = str(error)
        else:
            return Seen(
                node=settings.node.name, running=True, pid=pid, activities=status["activities"], source=API,
                address=address, status=status,
            )  # fmt: skip
    state = settings.node.state
    found = [*unfinished_work(state), *unfinished_transfers(state / SHELF)]
    return Seen(
        node=settings.node.name, running=running, pid=pid, activities=[each.document() for each in found], source=FILES,
        address=address, problem=problem,
    )  # fmt: skip


def _asked(settings: Settings, seconds: float) -> dict[str, Any]:
    at = settings.http.address
    if at is None:
        raise NoAnswer("the node has no HTTP port (http.listen)")
    if not at[1]:
        raise NoAnswer("http.listen takes any free port, so nobody knows where to ask; set one")
    status = ask_status(*at, seconds=seconds)
    if status.get("node") != settings.node.name:
        raise NoAnswer(f"{address_text(*at)} is the node {status.get('node')!r}, not {settings.node.name!r}")
    return status
