"""What to do next, decided from values alone: no I/O, no clock, no memory of earlier answers.

``next_action`` is total (every view has an answer), idempotent (the same view, the same answer) and makes
progress: when the action it names has succeeded, the next view leads on. The order is the contract:

1. asked to stop: stop. A committed generation that waits to be published does not hold the stop up:
   publishing streams the whole model and may outlast any grace period, the commit is durable, and the next
   start publishes it first, under the same version number and with the same bytes.
2. the node's own disk refuses to write: wait for it, all of it.
3. record what was seen: ``discovered`` and ``rejected`` facts cost one append and fix the order of arrival.
4. change the merge as the operator asked: what is to leave shall not be published once more.
5. do what the exchange with other nodes asks for, unless it backs off.
6. publish what is committed and due, *before* folding more; after a change at once. While publishing backs off,
   folding waits: which generation becomes which version then depends on the contributions alone, never on when a
   disk was full, so two nodes (or one that was disturbed) publish the same versions. Where a selector chooses, a merge
   on its way from one selection to the next is never published. A new fold is held until it was shown for as long as
   the policy wants, and folding waits for the same reason; a change that the operator asks for meanwhile comes first
   (4), so what is retracted in time is in no version. ``once`` holds nothing: nobody watches.
7. fold the next candidate: forced ones first, then by order of discovery. One that backs off blocks no other. Where a
   selector chooses instead: take out what is weighed otherwise now, look into what is new in the pool, fold what was
   selected, select again when the pool became another one. Only then, where the pool is above its limit, it is seen who
   leaves it: a newcomer gets its chance first.
8. nothing to do: wait, or with ``once`` publish the remainder and stop.

A failure that is not the candidate's fault (disk full while folding) belongs into ``node_wait_seconds``, not
into ``waiting``: then the candidates behind it do not overtake it, and the merge keeps the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterator

from mergenode.ledger.actions import (
    Action,
    Deselect,
    Discover,
    Evict,
    Fold,
    Index,
    MarkDuplicate,
    Mix,
    Publish,
    Refuse,
    Restate,
    Select,
    Stop,
    Wait,
)
from mergenode.ledger.records import (
    Deferred,
    Deselected,
    Discovered,
    Duplicate,
    Folded,
    Left,
    Quarantined,
    Rejected,
    Released,
)
from mergenode.ledger.selection import Standing, in_pool
from mergenode.ledger.view import Key, View
from mergenode.types import Candidate, Refused, Unsettled

SHORTEST_WAIT_SECONDS = 0.05
"""A wait is never shorter, so that an estimate of zero seconds cannot make the loop spin."""


def next_action(view: View) -> Action:
    """The one thing to do now; see the module's order. Pure, total, idempotent; never raises."""
    if view.draining:
        return Stop("asked to stop", complete=not (_left_undone(view) or view.changes or _unpublished(view)))
    if view.node_wait_seconds > 0:
        return _pause(view, view.node_wait_seconds, "the state directory cannot be written")
    return _record(view) or _restate(view) or _mix(view) or _publish_due(view) or _take_next(view) or _rest(view)


def pending(view: View) -> tuple[Candidate, ...]:
    """The listed candidates that are still to be folded, next one first, whether or not they back off.

    Where a selector chooses: those that are on their way into the merge, or were not looked into yet.
    """
    if view.selection is not None:
        return (*view.selection.entering, *view.selection.aside, *view.selection.unread)
    wanted = [candidate for candidate in _candidates(view) if _is_wanted(candidate, view)]
    wanted.sort(key=lambda candidate: (not candidate.forced, _place(candidate, view), candidate.key))
    unique: dict[Key, Candidate] = {}
    for candidate in wanted:
        unique.setdefault(candidate.key, candidate)
    return tuple(unique.values())


def settled_requests(view: View) -> tuple[Candidate, ...]:
    """Forced candidates that are in the merge already: their registries are to be told (``settled``) again.

    They remain listed when the node died between the durable fact and the removal of the request.
    """
    if view.selection is not None:
        return ()  # answered by a look into them, see ``Index``
    return tuple(
        candidate
        for candidate in _candidates(view)
        if candidate.forced and isinstance(view.outcomes.get(candidate.key), Folded | Duplicate)
    )


def _candidates(view: View) -> Iterator[Candidate]:
    for listing in view.listings.values():
        yield from listing.candidates


def _is_wanted(candidate: Candidate, view: View) -> bool:
    match view.outcomes.get(candidate.key):
        case None | Discovered() | Deselected() | Released():
            return True
        case Rejected() | Left() | Deferred() | Quarantined():
            return candidate.forced
        case _:
            return False


def _place(candidate: Candidate, view: View) -> float:
    return view.order.get(candidate.key, float("inf"))


def _record(view: View) -> Action | None:
    """Facts about what a listing shows, before anything is done about it."""
    fresh = {found.key: found for found in _candidates(view) if _is_news(found, view)}
    if fresh:
        return Discover(tuple(fresh[key] for key in sorted(fresh)))
    refused: dict[Key, Refused] = {}
    for listing in view.listings.values():
        for entry in listing.refused:
            outcome = view.outcomes.get(entry.key)
            if outcome is None or isinstance(outcome, Discovered):
                refused[entry.key] = entry
    return Refuse(tuple(refused[key] for key in sorted(refused))) if refused else None


def _is_news(found: Candidate, view: View) -> bool:
    """Never seen; or refused or taken out once, and asked for again where a selector chooses: back into its pool."""
    outcome = view.outcomes.get(found.key)
    return outcome is None or (view.selection is not None and found.forced and not in_pool(outcome))


def _restate(view: View) -> Action | None:
    return Restate(view.changes[0]) if view.changes else None


def _mix(view: View) -> Action | None:
    return Mix(view.mixing) if view.mixing is not None and view.mix_wait_seconds <= 0 else None


def _unpublished(view: View) -> int:
    """Generations committed since the newest published one; none where this merge is not what is published."""
    return view.head.generation - view.head.published_generation if view.policy.publishes else 0


def _publish_due(view: View) -> Action | None:
    unpublished = _unpublished(view)
    return _publish(view) if unpublished > 0 and _is_shown(view) and _is_due(unpublished, view) else None


def _is_shown(view: View) -> bool:
    """Whether the merge may be published as it is: not between two selections."""
    return view.selection is None or view.selection.reached


def _is_due(unpublished: int, view: View) -> bool:
    if view.head.restated or unpublished >= view.policy.publish_every_contributions:
        return True
    seconds = _seconds_until_due(view)
    return seconds is not None and seconds <= 0


def _seconds_until_due(view: View) -> float | None:
    """Until the publish that time alone brings about; None when only more contributions can."""
    every = view.policy.publish_every_seconds
    if every is None or _unpublished(view) <= 0 or not _is_shown(view):
        return None
    return 0.0 if view.seconds_since_publish is None else every - view.seconds_since_publish


def _publish(view: View) -> Action:
    if view.publish_wait_seconds > 0:
        why = f"generation {view.head.generation} waits to be published"
        return _pause(view, view.publish_wait_seconds, why)
    if view.hold_seconds > 0 and not view.once:
        return _pause(view, view.hold_seconds, f"generation {view.head.generation} is shown before it is published")
    return Publish(generation=view.head.generation, version=view.head.version + 1)


def _take_next(view: View) -> Action | None:
    if view.selection is not None:
        return _towards(view.selection, view)
    for candidate in pending(view):
        if view.waiting.get(candidate.key, 0.0) > 0:
            continue
        if candidate.content is not None and candidate.content in view.contents:
            return MarkDuplicate(candidate, candidate.content, view.contents[candidate.content])
        return Fold(candidate)
    return None


def _towards(selection: Standing, view: View) -> Action | None:
    """The next step to a merge of what the pool offers. A selection is carried out before there is another one.

    Everything is looked into before anything enters: in which order contributions enter follows from the selection
    alone then, not from when the node was started.
    """
    if selection.leaving:
        return Deselect(selection.leaving) if selection.wait_seconds <= 0 else None
    for candidate in selection.unread:
        if view.waiting.get(candidate.key, 0.0) <= 0:
            return Index(candidate)
    for candidate in selection.entering:
        if view.waiting.get(candidate.key, 0.0) <= 0:
            return Fold(candidate)
    if selection.due:
        return Select() if selection.wait_seconds <= 0 else None
    return Evict() if selection.crowded and selection.evict_wait_seconds <= 0 else None


def _rest(view: View) -> Action:
    """Nothing can be done now: everything pending backs off, or nothing is pending."""
    soonest = _soonest(view)
    if not view.once:
        return _wait(view, soonest)
    if soonest is not None and _is_worth_waiting(view, soonest):
        return _wait(view, soonest)
    if _unpublished(view) > 0 and _is_shown(view):
        return _publish(view)
    left = _left_over(view)
    return Stop(f"done, except for {left}" if left else "nothing is pending", complete=not left)


def _pause(view: View, seconds: float, why: str) -> Action:
    """Wait for the one thing that all else stands behind; ``once`` gives up when its patience is spent."""
    if view.once and not _is_worth_waiting(view, seconds):
        return Stop(f"gave up: {why}", complete=False)
    return Wait(max(SHORTEST_WAIT_SECONDS, min(seconds, view.policy.poll_seconds)), why)


def _wait(view: View, soonest: float | None) -> Wait:
    why = _left_over(view) or "nothing is pending"
    due = _seconds_until_due(view)
    times = [view.policy.poll_seconds, *(seconds for seconds in (soonest, due) if seconds is not None)]
    return Wait(max(SHORTEST_WAIT_SECONDS, min(times)), why)


def _soonest(view: View) -> float | None:
    """Seconds until something that is known now may become ready; None when nothing is expected."""
    times = [view.waiting.get(candidate.key, 0.0) for candidate in pending(view)]
    times += [entry.seconds_left for entry in _unsettled(view) if entry.seconds_left is not None]
    if view.unreachable:
        times.append(view.policy.poll_seconds)
    if view.mixing is not None:
        times.append(view.mix_wait_seconds)
    if view.selection is not None and (view.selection.due or view.selection.leaving):
        times.append(view.selection.wait_seconds)
    if view.selection is not None and view.selection.crowded and not view.selection.due:
        times.append(view.selection.evict_wait_seconds)
    return min(times, default=None)


def _is_worth_waiting(view: View, seconds: float) -> bool:
    return view.idle_seconds + seconds <= view.policy.once_patience_seconds


def _unsettled(view: View) -> Iterator[Unsettled]:
    for listing in view.listings.values():
        yield from listing.unsettled


def _left_undone(view: View) -> bool:
    standing = view.selection
    ahead = standing is not None and (standing.due or standing.crowded or not standing.reached)
    return bool(pending(view)) or ahead


def _left_over(view: View) -> str:
    """What is known and not done, for people; empty when all is done."""
    parts = []
    if waiting := len(pending(view)):
        parts.append(f"{waiting} that back off")
    if unsettled := sum(1 for _ in _unsettled(view)):
        parts.append(f"{unsettled} that are not complete yet")
    if view.unreachable:
        parts.append(f"unreachable registries: {', '.join(sorted(view.unreachable))}")
    if view.mixing is not None:
        parts.append("work for other nodes that backs off")
    if view.selection is not None and (view.selection.due or not view.selection.reached):
        parts.append("a selection that backs off")
    elif view.selection is not None and view.selection.crowded:
        parts.append("a pool above its limit")
    return ", ".join(parts)
