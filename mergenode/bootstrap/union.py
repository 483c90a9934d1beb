"""A node of a union, composed: two ledgers, two sets of statistics, one publisher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from mergenode.adapters.durable import disk_errors
from mergenode.adapters.engines.local.engine import LocalEngine
from mergenode.adapters.engines.local.union import LocalUniter
from mergenode.adapters.observers.union_filter import UnionObserver
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.bootstrap.parts import LEDGER, Parts, origin_for
from mergenode.daemon.contribute import Line
from mergenode.daemon.recover import initialise, recover
from mergenode.daemon.union import UnionMixing
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.view import Policy
from mergenode.methods.contract import Method
from mergenode.ports.exchange import Exchange
from mergenode.settings import Settings

UNION = "union"
"""The state of the union, below that of the node."""


def union_state(settings: Settings) -> Path:
    """Where the union of a node has its ledger and statistics."""
    return settings.node.state / UNION


def union_ledger(settings: Settings) -> Path:
    """The ledger of the union, made when it is not there yet. The state is locked by the caller."""
    state = union_state(settings)
    with disk_errors(state):
        state.mkdir(parents=True, exist_ok=True)
        _ledger(state).close()
    return state / LEDGER


def refuse_union(method: Method) -> None:
    """Raises UsageError when merges of this method cannot be added up."""
    if not method.combinable:
        raise UsageError(
            f"mixer.name is union, but merges of method {method.name} cannot be added up",
            hint="Take a method whose merges are sums, such as iso or aswudi (docs/which-method.md), or "
            "mixer: {name: contributions} (docs/contributions.md).",
        )


@contextmanager
def open_union(settings: Settings, parts: Parts, exchange: Exchange, policy: Policy) -> Iterator[UnionMixing]:
    """The mixing of a node of a union: recovered, checked. ``parts``: of the node, not started yet.

    ``policy``: when the union is published and the part offered. The loop takes ``.own`` as its line, the mixing, and
    a policy under which the own merge is not published:

        with open_union(settings, parts, exchange, policy) as union:
            exchange.listen(lifecycle.poke)
            loop = Loop(line=union.own, mixing=union, policy=replace(policy, publishes=False), ...)

    Raises:
        UsageError: the method's merges cannot be added up.
        FatalError: base or method are other ones than before, files are damaged, memory cannot hold the largest step,
            or versions of the node from before it was in a union are in the way.
    """
    refuse_union(parts.method)
    state = union_state(settings)
    generations = FolderGenerations(state)
    generations.prepare()
    engine = _engine(parts.engine, generations)
    uniter = LocalUniter(parts.engine, engine, state, parts.line.observer)
    with closing(_ledger(state)) as ledger:
        united = replace(
            parts.line, engine=engine, ledger=ledger, generations=generations,
            observer=UnionObserver(parts.line.observer),
        )  # fmt: skip
        _start(parts, united)
        uniter.check_memory()
        mixing = UnionMixing(
            own=parts.line, united=united, exchange=exchange, uniter=uniter, policy=policy,
            idempotent=parts.method.idempotent,
        )  # fmt: skip
        mixing.start()
        yield mixing


def _engine(own: LocalEngine, generations: FolderGenerations) -> LocalEngine:
    return replace(own, folding=generations.folding, generations=generations.statistics)


def _ledger(state: Path) -> SqliteLedger:
    with disk_errors(state):
        return SqliteLedger(state / LEDGER)


def _start(parts: Parts, united: Line) -> None:
    """First facts and recovery, as ``parts.start`` for a node alone; the own merge has no versions to recover."""
    own, origin = parts.line, origin_for(parts)
    known = initialise(own, origin)
    for sentence in own.generations.recover(own.ledger.head().generation):
        own.observer.message("info", f"recovery: {sentence}")
    initialise(united, replace(origin, ledger_id=f"{known.ledger_id[:25]}-union"))
    if not united.ledger.versions() and united.ledger.head().version == 0:
        _refuse_own_versions(own)
    recover(united)
    parts.engine.check_memory()


def _refuse_own_versions(own: Line) -> None:
    there = [fact.version for fact in own.ledger.versions() if own.publisher.holds(fact.version)]
    if there:
        raise FatalError(
            f"{own.publisher.path(there[-1])}: versions of this node from before it was in a union are there",
            hint="Point publish.path at a new directory: the union counts its versions from 1.",
        )
