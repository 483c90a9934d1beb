"""What the ledger says of a push."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from mergenode.adapters.peers.intake.outcomes import Fate, LedgerOutcomes, Outcome
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.ledger.records import Fact
from tests.support import facts

ENTRY = {"registry": "push", "name": "tuned@0123"}


def outcomes_after(place: Path, *recorded: Fact) -> tuple[LedgerOutcomes, SqliteLedger]:
    ledger = SqliteLedger(place / "ledger.sqlite")
    ledger.append(facts.initialised(), *recorded)
    return LedgerOutcomes(ledger), ledger


@pytest.mark.parametrize(
    ("fact", "outcome"),
    [
        (facts.folded(**ENTRY), Outcome(Fate.FOLDED, share_kept=None)),
        (
            facts.folded(**ENTRY, groups=({"group": "*", "share_kept": 0.629}, {"group": "a", "share_kept": 0.1})),
            Outcome(Fate.FOLDED, share_kept=0.629),
        ),
        (facts.rejected(**ENTRY), Outcome(Fate.REJECTED, "not_finite", "NaN in a.weight", "train again")),
        (facts.duplicate(**ENTRY, same_as="other"), Outcome(Fate.DUPLICATE, message="in the merge as other")),
        (
            facts.quarantined(**ENTRY, hint="Train again."),
            Outcome(
                Fate.QUARANTINED,
                "norm_above_median",
                "far from the others",
                "An operator of the node looks at it: `mergenode quarantine show` there. Train again.",
            ),
        ),
        (facts.released(**ENTRY), None),
        (facts.discovered(**ENTRY), None),
        (facts.folded(registry="inbox", name=ENTRY["name"]), None),
        (facts.folded(registry="push", name="another"), None),
    ],
)
def test_of_a_push(tmp_path: Path, fact: Fact, outcome: Outcome | None) -> None:
    outcomes, ledger = outcomes_after(tmp_path, fact)
    with closing(ledger):
        assert outcomes.of_push(ENTRY["name"], 0) == outcome


def test_earlier_facts_about_the_same_name_do_not_count(tmp_path: Path) -> None:
    outcomes, ledger = outcomes_after(tmp_path, facts.rejected(**ENTRY))
    with closing(ledger):
        position = outcomes.position()
        assert position == 2
        assert outcomes.of_push(ENTRY["name"], position) is None
        ledger.append(facts.folded(**ENTRY, revision="another"))
        found = outcomes.of_push(ENTRY["name"], position)
        assert found is not None and found.fate is Fate.FOLDED


def test_of_contents(tmp_path: Path) -> None:
    outcomes, ledger = outcomes_after(tmp_path, facts.folded(1, groups=({"group": "*", "share_kept": 0.5},)))
    with closing(ledger):
        found = outcomes.of_content(facts.folded(1).content)
        assert found is not None and (found.fate, found.share_kept) == (Fate.FOLDED, 0.5)
        assert outcomes.of_content(facts.digest(99)) is None
        ledger.append(facts.retracted(1), facts.restated(2, 0))
        found = outcomes.of_content(facts.folded(1).content)
        assert found is not None and (found.fate, found.reason) == (Fate.RETRACTED, "retracted")


def test_of_a_content_in_quarantine_until_somebody_decides(tmp_path: Path) -> None:
    content = facts.digest(2)
    outcomes, ledger = outcomes_after(tmp_path, facts.quarantined(2, **ENTRY))
    with closing(ledger):
        found = outcomes.of_content(content)
        assert found is not None and (found.fate, found.reason) == (Fate.QUARANTINED, "norm_above_median")
        ledger.append(facts.released(2))
        assert outcomes.of_content(content) is None, "it waits"
        ledger.append(facts.folded(1, content=content))
        found = outcomes.of_push(ENTRY["name"], 0)
        assert found is not None and found.fate is Fate.FOLDED, "let in under another name"


def test_of_a_content_that_was_dropped(tmp_path: Path) -> None:
    dropped = facts.rejected(2, content=facts.digest(2), reason="dropped", message="dropped by ops")
    outcomes, ledger = outcomes_after(tmp_path, facts.quarantined(2), dropped)
    with closing(ledger):
        found = outcomes.of_content(facts.digest(2))
        assert found is not None and (found.fate, found.reason) == (Fate.REJECTED, "dropped")


def test_an_empty_ledger(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        assert LedgerOutcomes(ledger).position() == 0
