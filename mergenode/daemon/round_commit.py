"""The end of a round: the fact, the version, and the state that the next round starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from mergenode.daemon.admission import known_degree
from mergenode.daemon.circle import Circle
from mergenode.daemon.contribute import origin_of, prune, tidy
from mergenode.daemon.manifest import SCHEMA, version_json
from mergenode.daemon.round_card import round_card
from mergenode.ledger.records import Mixed, Published
from mergenode.ledger.round_state import Phase, RoundState, Taken
from mergenode.mixers.rounds import Offered, next_epoch


def commit(circle: Circle, state: RoundState) -> RoundState:
    """Record the round, publish its model if it is due, and say where the next round starts.

    Durability: files came before, in the phases before; here the fact, then the version, then (by the caller) the
    state. Idempotence: a fact or a version that is there already is recognised by the number of the round.
    """
    line = circle.line
    fact = _recorded(circle, state.number)
    if fact is None:
        fact = _mixed(circle, state)
        line.ledger.append(fact)
        line.observer.fact(fact)
    if _due(circle, state.number):
        _publish(circle, state, fact)
    heads = [Offered(UUID(each.node), each.epoch) for each in state.taken]
    done = circle.policy.rounds is not None and state.number + 1 >= circle.policy.rounds
    return RoundState(
        number=state.number + 1,
        epoch=next_epoch(circle.rules, state.epoch, known_degree(state), heads),
        phase=Phase.OFFER if done else Phase.TRAIN,  # the last model is offered as it is
        start=state.mixed,
        trained=state.mixed if done else "",
        parents=_parents(circle, state, fact),
        arrivals=state.arrivals,
        distances=state.distances,
    )


def _recorded(circle: Circle, number: int) -> Mixed | None:
    newest = circle.line.ledger.facts(kinds=["mixed"], newest=1)
    fact = newest[-1][1] if newest else None
    return fact if isinstance(fact, Mixed) and fact.number == number else None


def _mixed(circle: Circle, state: RoundState) -> Mixed:
    entered = () if state.kept_own else tuple(_entry(each) for each in state.taken)
    return Mixed(
        time=circle.line.clock.now(),
        number=state.number,
        epoch=state.epoch,
        root=state.root,
        content=circle.models.content(circle.store.path(state.mixed)),
        own_weight=max(0.0, 1.0 - sum(entry["weight"] for entry in entered)),
        parents=entered,
        refused=tuple(asdict(each) for each in state.refused),
        missing=len(state.missing),
        stale=len(state.stale),
        ahead=state.ahead,
        spread=state.spread,
        update=state.update,
        kept_own=state.kept_own,
        training_failed=state.training_failed,
        metrics=dict(state.metrics),
        scores=dict(state.scores),
        seconds=dict(state.seconds),
    )


def _entry(each: Taken) -> dict[str, Any]:
    entry = asdict(each)
    del entry["file"], entry["degree"]
    return entry


def _parents(circle: Circle, state: RoundState, fact: Mixed) -> Mapping[str, tuple[str, float]]:
    parents = {entry["node"]: (entry["root"], float(entry["weight"])) for entry in fact.parents}
    return {**parents, circle.exchange.node_id.hex: (state.root, fact.own_weight)}


def _due(circle: Circle, number: int) -> bool:
    policy = circle.policy
    return (number + 1) % policy.publish_every == 0 or number + 1 == policy.rounds


def _publish(circle: Circle, state: RoundState, fact: Mixed) -> None:
    """As ``contribute.publish``, for the model of a round."""
    line, started = circle.line, circle.line.clock.monotonic()
    versions = line.ledger.versions()
    if versions and versions[-1].round == fact.number:
        line.publisher.point_latest(versions[-1].version)
        return
    head = line.ledger.head()
    version = head.version + 1
    if (line.publisher.visible(version) or {}).get("content") != fact.content:
        staging = line.publisher.stage(version)
        tensors = circle.models.export(circle.store.path(state.mixed), staging)
        manifest = _manifest(circle, fact, version, tensors)
        line.publisher.publish(version, manifest, version_json(manifest), round_card(manifest))
    line.publisher.point_latest(version)
    published = Published(
        time=line.clock.now(),
        version=version,
        generation=head.published_generation,
        digest=line.publisher.digest(version),
        path=line.publisher.path(version),
        seconds=line.clock.monotonic() - started,
        round=fact.number,
    )
    line.ledger.append(published)
    line.observer.fact(published)
    tidy(line, lambda: prune(line))


def _manifest(circle: Circle, fact: Mixed, version: int, tensors: Mapping[str, str]) -> dict[str, Any]:
    """What the version of a round says of itself: the fields of every version, and where the model comes from."""
    policy, origin, head = circle.policy, origin_of(circle.line), circle.line.ledger.head()
    return {
        "schema": SCHEMA,
        "version": version,
        "parent": version - 1 or None,
        "generation": head.generation,
        "base": origin.base,
        "method": {"name": "dimat", "options": {"matching": policy.matching, "robust": policy.robust}},
        "dtype": circle.line.publish_dtype,
        "scale": {},
        "count": head.count,
        "totals": {},
        "lineage": None,
        "statistics": None,
        "contributions": [],
        "groups": [],
        "tensors": dict(tensors),
        "content": fact.content,
        "node": str(circle.exchange.node_id),
        "round": {
            "number": fact.number,
            "epoch": fact.epoch,
            "root": fact.root,
            "own_weight": fact.own_weight,
            "kept_own": fact.kept_own,
            "metrics": dict(fact.metrics),
            "scores": dict(fact.scores),
        },
        "parents": [{key: entry[key] for key in ("node", "root", "epoch", "weight")} for entry in fact.parents],
    }


def after_restart(circle: Circle) -> None:
    """``latest`` and retention as the ledger has them. Idempotent."""
    line = circle.line
    present = [fact.version for fact in line.ledger.versions() if line.publisher.holds(fact.version)]
    if present:
        line.publisher.point_latest(present[-1])
        tidy(line, lambda: prune(line))
