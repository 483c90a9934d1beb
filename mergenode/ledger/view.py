"""What a decision depends on, as one value: the committed merge, the registries, the patience."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mergenode.ledger.changes import Change
from mergenode.ledger.records import ContributionFact
from mergenode.ledger.selection import Standing
from mergenode.types import Digest, Head, Listing

Key = tuple[str, str, str]
"""registry, name, revision"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When to publish, how long to rest, when ``once`` gives up. ``keep``: versions retained after a publish.

    A publish is due after ``publish_every_contributions`` folds, or, when ``publish_every_seconds`` is set,
    that long after the last one if anything was folded since (the first version at once). What is due waits until
    the newest fold is ``publish_hold_seconds`` old, so that who watches sees it first. ``poll_seconds`` is
    the longest wait. ``once_patience_seconds`` bounds how long ``once`` waits without progress for what may
    still become ready. ``publishes`` False: this merge is not what is published, a union with others is.
    """

    publish_every_contributions: int = 1
    publish_every_seconds: float | None = None
    publish_hold_seconds: float = 0.0
    keep: int = 5
    poll_seconds: float = 10.0
    once_patience_seconds: float = 60.0
    publishes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a decision depends on, observed at one moment.

    ``listings``: what each reachable registry holds; ``unreachable``: the names of the others.
    ``outcomes``: the newest fact about each listed revision; ``order``: the sequence number of its discovery.
    ``contents``: for content digests that listed candidates promise and that are in the merge, the name each
    was folded as. ``waiting``: seconds until a revision may be tried again; ``publish_wait_seconds`` and
    ``node_wait_seconds``: the same for publishing and for every write of this node. Zero or absent: now.
    ``seconds_since_publish``: None when nothing was ever published. ``hold_seconds``: until the newest fold was shown
    long enough to be published. ``idle_seconds``: waited since the last
    action other than ``Wait`` succeeded. ``changes``: what the operator wants to be changed about the merge, oldest
    first. ``mixing``: what the exchange with other nodes asks for next, ``mix_wait_seconds``: until that may be tried
    again. ``selection``: how far the merge is from what was selected; None where everything is folded. ``draining``:
    asked to stop. ``once``: stop when all is done.
    """

    head: Head
    policy: Policy = field(default_factory=Policy)
    listings: Mapping[str, Listing] = field(default_factory=dict)
    unreachable: frozenset[str] = frozenset()
    outcomes: Mapping[Key, ContributionFact] = field(default_factory=dict)
    order: Mapping[Key, int] = field(default_factory=dict)
    contents: Mapping[Digest, str] = field(default_factory=dict)
    waiting: Mapping[Key, float] = field(default_factory=dict)
    publish_wait_seconds: float = 0.0
    node_wait_seconds: float = 0.0
    seconds_since_publish: float | None = None
    hold_seconds: float = 0.0
    idle_seconds: float = 0.0
    changes: tuple[Change, ...] = ()
    mixing: object | None = None
    mix_wait_seconds: float = 0.0
    selection: Standing | None = None
    draining: bool = False
    once: bool = False
