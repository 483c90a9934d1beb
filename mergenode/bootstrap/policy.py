"""When a node publishes and how long it rests, from its settings."""

from __future__ import annotations

from mergenode.ledger.view import Policy
from mergenode.settings import Settings


def policy_of(settings: Settings) -> Policy:
    """When to publish and how long to rest."""
    every = settings.publish.every
    settle = max((entry.settle_seconds for entry in settings.registries), default=0.0)
    polls = [entry.poll_seconds for entry in settings.registries]
    return Policy(
        publish_every_contributions=every.contributions or 1 << 62,
        publish_every_seconds=every.seconds,
        publish_hold_seconds=settings.publish.hold_seconds,
        keep=settings.publish.keep,
        poll_seconds=min(polls, default=10.0),
        once_patience_seconds=settle + 30.0,
    )
