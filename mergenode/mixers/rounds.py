"""What a node decides in a round: how long it waits, whose models it takes, in which share, and which epoch is next.

Rounds are asynchronous and tagged with an epoch. Nobody waits for a straggler past a bound, a partition goes on alone,
and epochs that drifted apart come together again. No clock and no tensors: seconds and epochs come in as numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from uuid import UUID

ARRIVALS = 20
"""So many of the newest arrival offsets are looked at."""

JUMP = 10
"""Epochs beyond which a node that lags takes a whole model instead of a share, and most that few can pull it."""

MAD_FACTOR = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRules:
    """quorum: share of the live neighbours without which a round goes on only at ``longest``. staleness: epochs that a
    head may lie back. discount: factor of a head's share per epoch that it is late. shortest, longest: bounds of the
    wait, seconds. synchronous: a barrier, everybody is waited for, up to ``longest``. liars: so many neighbours may say
    what they want of their epoch."""

    quorum: float = 0.5
    staleness: int = 1
    discount: float = 0.5
    shortest: float = 10.0
    longest: float = 3600.0
    synchronous: bool = False
    liars: int = 0


@dataclass(frozen=True, slots=True)
class Offered:
    """The newest head of a neighbour whose weights are here. ``degree``: its number of neighbours, if it says so."""

    node: UUID
    epoch: int
    degree: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the wait depends on. ``neighbours``: whether each is up. ``waited``: seconds since this node's own offer.

    ``offsets``: when heads of earlier rounds arrived, seconds after the offer. ``expected``: before there are any, how
    long neighbours may need (this node's own training). ``uptime``: seconds since the process began.
    """

    epoch: int
    neighbours: Mapping[UUID, bool]
    offered: Mapping[UUID, Offered]
    waited: float
    offsets: Sequence[float] = ()
    expected: float = 0.0
    uptime: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after ``seconds`` (> 0), or when something arrives."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Go:
    """The round goes on with these heads, ascending by node. ``missing``: neighbours without any, ``stale``: with one
    that is too old."""

    chosen: tuple[Offered, ...]
    missing: tuple[UUID, ...]
    stale: tuple[UUID, ...]
    why: str


def deadline(rules: RoundRules, offsets: Sequence[float], expected: float) -> float:
    """Seconds after the own offer at which stragglers are left behind, within ``shortest`` and ``longest``.

    Median of the newest offsets plus four median absolute deviations; before there are any, twice ``expected``.
    """
    if rules.synchronous:
        return rules.longest
    newest = list(offsets)[-ARRIVALS:]
    if newest:
        middle = median(newest)
        expected = middle + MAD_FACTOR * median(abs(offset - middle) for offset in newest)
    else:
        expected *= 2.0
    return min(max(expected, rules.shortest), rules.longest)


def collect(rules: RoundRules, standing: Standing) -> Wait | Go:
    """Whether the round goes on, and with whose heads. Never a Wait once ``longest`` seconds were waited.

    Neighbours that are down are not waited for, but in the first ``shortest`` seconds of a process, when nobody can
    know yet, and in synchronous mode. Their heads are taken as long as they are new enough.
    """
    unknown = rules.synchronous or standing.uptime < rules.shortest
    due = {node for node, up in standing.neighbours.items() if up or unknown}
    ready = {node for node in due if node in standing.offered and standing.offered[node].epoch >= standing.epoch}
    limit = deadline(rules, standing.offsets, standing.expected)
    if not due:
        return _go(rules, standing, "no neighbour is up")
    if ready == due:
        return _go(rules, standing, "every neighbour answered")
    if standing.waited >= rules.longest:
        return _go(rules, standing, "waited as long as ever")
    if standing.waited >= limit and len(ready) >= ceil(rules.quorum * len(due)):
        return _go(rules, standing, "a quorum answered in time")
    until = limit if standing.waited < limit else rules.longest
    seconds = until - standing.waited
    if not rules.synchronous and standing.uptime < rules.shortest:
        seconds = min(seconds, rules.shortest - standing.uptime)
    return Wait(seconds, f"{len(due) - len(ready)} of {len(due)} neighbours have no model of epoch {standing.epoch}")


def _go(rules: RoundRules, standing: Standing, why: str) -> Go:
    heard = [standing.offered[node] for node in sorted(standing.neighbours) if node in standing.offered]
    fresh = tuple(head for head in heard if head.epoch >= standing.epoch - rules.staleness)
    missing = tuple(node for node in sorted(standing.neighbours) if node not in standing.offered)
    return Go(fresh, missing, tuple(head.node for head in heard if head not in fresh), why)


def shares(
    rules: RoundRules,
    epoch: int,
    degree: int,
    chosen: Collection[Offered],
    fixed: Mapping[UUID, float] | None = None,
) -> dict[UUID, float]:
    """The share of each of these heads in the mix, ascending by node; what is left of one is the node's own.

    Metropolis-Hastings ``1 / (1 + max(degree_i, degree_j))`` with the degrees that both ends declared, or ``fixed``,
    the shares of a named topology. A late head's is multiplied by ``discount`` per epoch, so is that of one which is
    ahead by more than ``staleness`` epochs up to ``JUMP``. Where half of the ``degree`` neighbours or more are ahead by
    more than ``JUMP``, this node was away: their heads share everything equally, and nothing of its own model stays.
    """
    away = was_away(epoch, degree, chosen)
    if away:
        return {head.node: 1.0 / len(away) for head in sorted(away, key=lambda head: head.node)}
    own = max(degree, len(chosen))
    result = {}
    for head in sorted(chosen, key=lambda head: head.node):
        declared = own if head.degree is None else head.degree
        share = 1.0 / (1 + max(own, declared)) if fixed is None else fixed[head.node]
        result[head.node] = share * rules.discount ** _apart(rules, epoch, head)
    return result


def _apart(rules: RoundRules, epoch: int, head: Offered) -> int:
    """Epochs for which a head is discounted."""
    if head.epoch <= epoch:
        return epoch - head.epoch
    ahead = head.epoch - epoch
    return ahead if rules.staleness < ahead <= JUMP else 0


def was_away(epoch: int, degree: int, chosen: Collection[Offered]) -> list[Offered]:
    """The heads that a node which was away takes over; empty: it was not. Those who say so have to be half of all
    neighbours, not of those who answered: a liar is often the only one who does."""
    ahead = [head for head in chosen if head.epoch > epoch + JUMP]
    return ahead if ahead and 2 * len(ahead) >= degree else []


def next_epoch(rules: RoundRules, epoch: int, degree: int, chosen: Collection[Offered]) -> int:
    """The epoch of the next round: one further, or after those that are ahead by more than ``staleness``.

    What half of the ``degree`` neighbours say is followed at once. What fewer say, but more than ``liars``, moves this
    node by at most ``JUMP`` epochs a round: a neighbour that invents an epoch does not take others far.
    """
    epochs = sorted((head.epoch for head in chosen), reverse=True)
    half = epochs[ceil(degree / 2) - 1] if 0 < ceil(degree / 2) <= len(epochs) else epoch
    some = epochs[rules.liars] if len(epochs) > rules.liars else epoch
    reached = max(half, min(some, epoch + JUMP - 1))
    return (reached if reached > epoch + rules.staleness else epoch) + 1
