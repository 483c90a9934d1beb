"""The local engine with a ledger beside it: a state directory as a node leaves it, in a given order, without a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.daemon.contribute import folded_fact
from mergenode.ledger.records import Fact, Folded, Initialised, Member
from mergenode.types import Candidate, Head
from tests.support.local_node import AMPLE, LocalNode

TIME = "2026-01-02T03:04:05Z"


class LedgeredNode(LocalNode):
    """Every fold is a fact; ``state`` is the directory."""

    def __init__(
        self, root: Path, base: Path, method: str, options: Mapping[str, object] | None = None, *,
        ledger_id: str = "", resources: Resources = AMPLE,
    ) -> None:  # fmt: skip
        super().__init__(root, base, method, dict(options or {}), resources)
        self.state = root / "state"
        self.origin = Initialised(
            time=TIME,
            ledger_id=ledger_id or root.name,
            base=self.described.digest,
            method=method,
            options=dict(self.engine.method.options),
        )
        self.append(self.origin)

    def append(self, *facts: Fact) -> None:
        with closing(SqliteLedger(self.state / "ledger.sqlite")) as ledger:
            ledger.append(*facts)
            self.head = ledger.head()

    def take(self, *models: Path, weights: Sequence[float] = ()) -> LedgeredNode:
        """Fold and commit these; returns the node."""
        for number, path in enumerate(models):
            weight = weights[number] if weights else 1.0
            head = self.head
            result = self.fold(path, weight)
            candidate = Candidate("inbox", path.name, "1", str(path), weight=weight)
            self.append(folded_fact(candidate, result, head, self.origin, time=TIME))
        return self


def head_of(state: Path) -> Head:
    with closing(open_reader(state / "ledger.sqlite")) as reader:
        return reader.head()


def members_of(state: Path) -> list[Member]:
    with closing(open_reader(state / "ledger.sqlite")) as reader:
        return [member for _, member in reader.members()]


def folds_of(state: Path) -> list[Folded]:
    with closing(open_reader(state / "ledger.sqlite")) as reader:
        return [fold for _, fold in reader.folds()]


def engine_on(state: Path, base: Path, method: str, options: Mapping[str, object]) -> LocalNode:
    """The engine on a state that somebody else made; its head is the committed one."""
    node = LocalNode(state.parent, base, method, dict(options))
    assert node.root / "state" == state
    node.head = head_of(state)
    return node
