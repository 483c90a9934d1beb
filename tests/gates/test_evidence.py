"""What a fold tells, and how it is put together with an inspection."""

from __future__ import annotations

from dataclasses import replace

from mergenode.gates.evidence import WHOLE, Evidence, SpectraSummary, joined, of_fold, with_history
from mergenode.types import Digest, FoldResult, GroupReport, Kind
from tests.support.evidence import group, honest

REPORT = GroupReport(
    WHOLE, 100, delta_norm=3.0, kept_norm=2.0, merge_norm=9.0, base_norm=10.0, cosine=0.2, share_kept=0.6
)
RESULT = FoldResult(
    content=Digest("blake3:with-side-cars"), kind=Kind.FULL, statistics=Digest("blake3:s"), totals={}, norm=3.0,
    relative_norm=0.3, groups=(REPORT, replace(REPORT, group="layers.0")), promised=Digest("blake3:weights"),
)  # fmt: skip


def test_norms_are_those_of_the_checkpoint_not_of_its_weight() -> None:
    found = of_fold(RESULT, weight=0.5, label="mine")
    assert found.whole is not None and found.whole.norm == 6.0
    assert (found.whole.cosine, found.whole.share_kept, found.whole.base_norm) == (0.2, 0.6, 10.0)
    assert found.not_finite == () and found.merged and found.content == "blake3:weights"
    assert of_fold(replace(RESULT, promised=None)).content == "blake3:with-side-cars"


def test_the_first_contribution_has_no_angle() -> None:
    found = of_fold(RESULT, merged=False).whole
    assert found is not None and (found.cosine, found.share_kept) == (None, None)


def test_an_inspection_adds_to_the_fold_and_counts_where_both_know() -> None:
    fold = with_history(of_fold(RESULT, label="mine"), {WHOLE: (1.0,)})
    measured = Evidence(
        groups={WHOLE: group(norm=2.5, cosine=None, base_norm=None, share_kept=None, sign_conflict=0.4)},
        spectra=SpectraSummary(matrices=1, median=(0.5,)),
        frozen_changed=("a",),
        frozen_changed_count=1,
    )
    both = joined(fold, measured)
    assert both.groups[WHOLE] == group(norm=2.5, cosine=0.2, base_norm=10.0, share_kept=0.6, sign_conflict=0.4)
    assert set(both.groups) == {WHOLE, "layers.0"} and both.history == {WHOLE: (1.0,)}
    assert both.spectra is measured.spectra and both.frozen_changed == ("a",) and both.merged and both.label == "mine"
    assert both.not_finite == () and both.content == "blake3:weights"


def test_joining_with_nothing_changes_nothing() -> None:
    fold = of_fold(RESULT)
    assert joined(fold, Evidence()) == fold
    assert joined(Evidence(), honest()) == honest()
