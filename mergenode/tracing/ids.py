"""Ids that everybody derives from what he knows: nothing is stored, sent or agreed on.

A trace id has 32 hexadecimal digits, as W3C Trace Context wants it. A contribution's follows from its registry, name
and revision, which are in each of its facts; that of a push from its name and the root of its weights, which the pusher
knows before the node does, and which are in the name of the entry that it becomes.
"""

from __future__ import annotations

from hashlib import blake2b

TRACE_DIGITS = 32
SPAN_DIGITS = 16
SHORT_DIGITS = 8
"""Of the form for people; what `mergenode trace` takes at least."""

PUSHES = "push"
"""The registry of what teams push; its entries are called ``name@root`` with so many digits of the root."""
ROOT_DIGITS = 12

_PERSON = b"mergenode trace1"


def contribution_trace(registry: str, name: str, revision: str) -> str:
    """The id of one revision of one entry; for an entry of the registry of pushes that of the push."""
    if registry == PUSHES:
        given, _, rest = name.rpartition("@")
        root = rest[:ROOT_DIGITS]
        if given and len(root) == ROOT_DIGITS:
            return push_trace(given, root)
    return _derived("contribution", registry, name, revision)


def push_trace(name: str, root: str) -> str:
    """The id of a push: ``root`` in hexadecimal digits, of which the first twelve count."""
    return _derived("push", name, root[:ROOT_DIGITS])


def weights_trace(root: str) -> str:
    """The id of weights that nodes offer to each other, by their root in hexadecimal digits."""
    return _derived("weights", root)


def merge_trace(lineage: str) -> str:
    """The id of a merge that no single contribution led to: after a rollback, a combination, at the very start."""
    return _derived("merge", lineage)


def first_span(trace_id: str) -> str:
    """The span id of what happens to a contribution outside any measured work."""
    return trace_id[-SPAN_DIGITS:]


def is_sampled(trace_id: str, share: float) -> bool:
    """Whether spans of this trace are exported: everybody with the same ``share`` in [0, 1] says the same."""
    return int(trace_id[-SPAN_DIGITS:], 16) < share * 2.0**64


def _derived(*parts: str) -> str:
    hasher = blake2b(digest_size=TRACE_DIGITS // 2, person=_PERSON)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()
