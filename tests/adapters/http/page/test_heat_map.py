"""The map of layers: which rows, which colours, which words."""

from __future__ import annotations

import re

from mergenode.adapters.http.page.heat_map import COLUMNS, ROWS, heat_section
from tests.support.observed import folded, group


def test_warm_is_where_little_was_kept() -> None:
    reports = (group("*"), group("a", share_kept=0.02), group("b", share_kept=0.5), group("c", share_kept=1.0))
    page = heat_section([folded(1, groups=reports)], "kept")
    cells = re.findall(r'<td class="h(\d)" title="team-1, (\w): kept ([^"]+)">(\d+)</td>', page)
    assert cells == [("0", "a", "2.00 %", "2"), ("4", "b", "50.0 %", "50"), ("8", "c", "100 %", "100")]


def test_what_goes_against_the_merge_and_what_is_huge_are_warm() -> None:
    reports = (group("*"), group("a", cosine=-0.5), group("b", cosine=0.0), group("c", cosine=0.15))
    cosine = heat_section([folded(1, groups=reports)], "cosine")
    assert re.findall(r'class="h(\d)" title="team-1, (\w)', cosine) == [("0", "a"), ("4", "b"), ("6", "c")]
    reports = (group("*"), group("a", delta_norm=64.0), group("b"), group("c"), group("d", delta_norm=0.0))
    norm = heat_section([folded(1, groups=reports)], "norm")
    assert re.findall(r'class="h(\d)" title="team-1, (\w)', norm) == [("0", "a"), ("4", "b"), ("4", "c"), ("8", "d")]


def test_what_says_nothing_is_not_shown_first() -> None:
    """A merge that keeps everything whole is told by sizes."""
    page = heat_section([folded(1, groups=(group("*"), group("a", share_kept=1.0)))], None)
    assert "Size over that of the base by layer group" in page
    assert "Share kept by layer group" in heat_section([folded(1)], None)


def test_the_newest_contributions_and_the_warmest_groups_in_the_order_of_the_model() -> None:
    names = [f"layers.{number}" for number in range(90)]
    shares = {name: 0.9 - 0.005 * number for number, name in enumerate(names)} | {"layers.3": 0.1}
    reports = (group("*"), *(group(name, share_kept=share) for name, share in shares.items()))
    page = heat_section([folded(number, groups=reports) for number in range(1, COLUMNS + 11)], None)
    rows = re.findall(r'<th scope="row">([\w.]+)</th>', page)
    assert rows == ["layers.3", *names[-ROWS + 1 :]]
    columns = re.findall(r'<th scope="col" title="no\. (\d+)', page)
    assert columns == [str(number) for number in range(COLUMNS + 10, 10, -1)]


def test_groups_that_a_contribution_has_not_are_empty_cells() -> None:
    folds = [folded(1, groups=(group("*"), group("a"))), folded(2, groups=(group("*"), group("a"), group("b")))]
    assert heat_section(folds, None).count("not known") == 1
    assert "No contribution has figures" in heat_section([folded(1, groups=())], None)
