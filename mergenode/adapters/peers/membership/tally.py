"""Counts of what was answered and refused, bounded whatever peers send."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from uuid import UUID

from mergenode.wire.admission import HeadFault

CALL_REFUSALS = ("malformed_message", "protocol", "banned", "outdated", "busy", "lineage_unknown", "accused")
REFUSALS = (*HeadFault, *CALL_REFUSALS)
"""Everything that is counted as refused. Closed."""
MOST_NODES = 1024


class Tally:
    """Thread-safe. Codes outside of ``REFUSALS`` count as ``accused``: a mixer's own words are no label."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rpcs: Counter[tuple[str, str]] = Counter()
        self._refusals: Counter[str] = Counter({str(code): 0 for code in REFUSALS})
        self._of_nodes: OrderedDict[UUID, Counter[str]] = OrderedDict()

    def rpc(self, method: str, code: str) -> None:
        """A call was answered with this status. ``method`` as gRPC has it; only those of the protocol are let in."""
        with self._lock:
            self._rpcs[method.removeprefix("/mergenode.v1."), code] += 1

    def refusal(self, code: str, node_id: UUID | None = None) -> None:
        """Something was refused, and which node it was about; nodes that were quiet longest drop out."""
        with self._lock:
            code = code if code in self._refusals else "accused"
            self._refusals[code] += 1
            if node_id is not None:
                self._of_nodes.setdefault(node_id, Counter())[code] += 1
                self._of_nodes.move_to_end(node_id)
                if len(self._of_nodes) > MOST_NODES:
                    self._of_nodes.popitem(last=False)

    def rpcs(self) -> Mapping[tuple[str, str], int]:
        with self._lock:
            return dict(self._rpcs)

    def refusals(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._refusals)

    def of(self, node_id: UUID) -> Mapping[str, int]:
        """Refusals about one node by code."""
        with self._lock:
            return dict(self._of_nodes.get(node_id, {}))
