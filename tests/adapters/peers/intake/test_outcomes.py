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


NEWEST = facts.selected(m1=0.5, m2=0.0)


def test_of_a_pool(tmp_path: Path) -> None:
    _, ledger = outcomes_after(tmp_path, facts.discovered(1, **ENTRY), NEWEST)
    with closing(ledger):
        outcomes = LedgerOutcomes(ledger, selects=True)
        assert outcomes.of_pool(facts.digest(3)) is None, "it waits for a selection"
        assert outcomes.of_pool(facts.digest(1)) is None, "it waits to be folded"
        found = outcomes.of_pool(facts.digest(2))
        assert found is not None and (found.fate, found.reason, found.score) == (Fate.NOT_SELECTED, "useless", 0.0)
        assert "in the pool of 2" in found.message and "would not lower the loss, score 0" in found.message
        assert "mergenode pool rank" in found.hint
        ledger.append(facts.folded(1, content=facts.digest(1)))
        found = outcomes.of_pool(facts.digest(1))
        assert found is not None and (found.fate, found.message) == (Fate.FOLDED, "in the merge as m1")


def test_without_a_selector_an_old_selection_says_nothing(tmp_path: Path) -> None:
    outcomes, ledger = outcomes_after(tmp_path, NEWEST)
    with closing(ledger):
        assert outcomes.of_pool(facts.digest(2)) is None


def test_a_later_selection_counts_and_takes_the_word_folded_back(tmp_path: Path) -> None:
    content = facts.digest(1)
    folded = facts.folded(1, **ENTRY, content=content)
    _, ledger = outcomes_after(tmp_path, facts.discovered(1, **ENTRY), NEWEST, folded)
    with closing(ledger):
        outcomes = LedgerOutcomes(ledger, selects=True)
        found = outcomes.of_push(ENTRY["name"], 0)
        assert found is not None and found.fate is Fate.FOLDED
        ledger.append(facts.selected(m1=0.0, m2=0.5))
        ledger.append(facts.deselected(1, **ENTRY, content=content), facts.restated(2, 0))
        assert outcomes.of_push(ENTRY["name"], 0) is None
        found = outcomes.of_pool(content)
        assert found is not None and found.fate is Fate.NOT_SELECTED


def test_evicted_from_a_full_pool(tmp_path: Path) -> None:
    gone = facts.rejected(**ENTRY, content=facts.digest(2), reason="evicted", message="evicted, the limit is 3")
    outcomes, ledger = outcomes_after(tmp_path, NEWEST, gone)
    with closing(ledger):
        found = outcomes.of_push(ENTRY["name"], 0)
        assert found is not None and (found.fate, found.reason) == (Fate.REJECTED, "evicted")


def test_an_empty_ledger(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        assert LedgerOutcomes(ledger).position() == 0
