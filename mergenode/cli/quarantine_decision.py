"""Finding what is meant in quarantine, and deciding on it: by the running node, or here where none runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergenode.cli.changes import answered, await_answer
from mergenode.cli.ingest import poke
from mergenode.cli.node import Node, running_process
from mergenode.errors import UsageError
from mergenode.ledger.changes import DROP, RELEASE, Change
from mergenode.ledger.records import Fact, Held, Quarantined


def entry_named(node: Node, name: str, registry: str | None) -> tuple[int, Held]:
    """What is held and meant by ``name``: as it is called, as a team pushed it, or its content digest.

    Raises UsageError when there is nothing like it, or more than one.
    """
    held = [entry for entry in node.reader.quarantine() if registry in (None, entry[1].registry)]
    by_content = name.startswith("blake3:")
    found = [entry for entry in held if name == (entry[1].content if by_content else entry[1].name)]
    # What teams pushed is called NAME@ROOT.
    found = found or [entry for entry in held if entry[1].name.rpartition("@")[0] == name]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(f"{fact.registry}/{fact.name} ({fact.content[:19]})" for _, fact in found)
        raise UsageError(f"{len(found)} contributions {name!r} are in quarantine: {places}",
                         hint="Name the registry with --registry, or give the content digest.")  # fmt: skip
    raise _unknown(node, name, [fact.name for _, fact in held])


def _unknown(node: Node, name: str, names: Sequence[str]) -> UsageError:
    from difflib import get_close_matches

    facts = node.reader.facts(name=name, newest=1) if not name.startswith("blake3:") else []
    if facts:
        return UsageError(
            f"{name!r} is not in quarantine: its last fact is {facts[-1][1].kind!r}",
            hint=f"`mergenode show {name}` tells its story",
        )
    near = get_close_matches(name, names, n=1)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"nothing in quarantine is called {name!r}{suggestion}", hint="`mergenode quarantine list`")


def decided(
    node: Node, config: Path, decision: str, held: Sequence[Held], why: str
) -> tuple[Sequence[tuple[int, Fact]], bool]:
    """Have it decided; the facts that record it, and whether a node runs that goes on from there.

    Raises:
        UsageError: it was released before. FatalError: the node refused, or ended before (the request stays then).
    """
    for fact in held:
        if decision == RELEASE and not isinstance(fact, Quarantined):
            raise UsageError(
                f"{fact.name!r} was released on {fact.time} and is not folded yet",
                hint=f"Its files have to be at {fact.location}, and the node has to run." if fact.location else "",
            )
    before = node.reader.facts(newest=1)[-1][0]
    contents = tuple(dict.fromkeys(fact.content for fact in held))
    change = Change("", contents, why=why, quarantine=decision, who=_who())
    owner = running_process(node.settings.node.state)
    if owner is None:
        from mergenode.bootstrap.quarantine import decide_here

        decide_here(node.settings, change)
    else:
        _ask(node, config, change)
    kinds = ("released",) if decision != DROP else ("rejected",)
    facts = [
        (sequence, fact)
        for sequence, fact in node.reader.facts(kinds=kinds)
        if sequence > before and getattr(fact, "content", None) in contents
    ]
    return facts, owner is not None


def _ask(node: Node, config: Path, change: Change) -> None:
    """Leave a request for the running node, and wait for its answer."""
    from mergenode.adapters.clock import SystemClock
    from mergenode.adapters.store.change_requests import FolderChangeRequests

    state = node.settings.node.state
    requests = FolderChangeRequests(state)
    change = requests.submit(change, SystemClock())
    owner = running_process(state)
    if owner is not None:
        poke(owner)
    await_answer(state, lambda: requests.is_pending(change))
    answered(requests, change, config, "nothing was decided yet: the node stopped first")


def _who() -> str:
    """The user who asks, as his system calls him."""
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return ""
