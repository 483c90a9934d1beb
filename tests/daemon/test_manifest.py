"""What a version says about itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.daemon.manifest import LISTED_CONTRIBUTIONS, model_card, version_json, version_manifest
from mergenode.types import Head
from tests.support import facts


def _nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)


GROUPS = ({"group": "*", "share_kept": 0.5, "cosine": 0.1},)


def manifest(*folds, count: int | None = None):
    return version_manifest(
        origin=facts.initialised(),
        head=Head(generation=len(folds), count=count or len(folds), totals={"n": 1.5}, lineage=facts.digest(7)),
        version=3,
        dtype=None,
        scale={"used": 1.0, "norm_rule": None},
        tensors={"w": facts.digest(9)},
        contributions=folds,
    )


def test_everything_that_determines_a_version_is_in_it_and_nothing_else() -> None:
    told = manifest(facts.folded(1, groups=GROUPS), facts.folded(2, groups=GROUPS))
    assert told["parent"] == 2 and told["version"] == 3
    assert told["lineage"] == facts.digest(7) and told["base"] == facts.digest(0)
    assert [entry["name"] for entry in told["contributions"]] == ["m1", "m2"]
    assert told["contributions"][0]["share_kept"] == 0.5
    text = version_json(told).decode()
    assert facts.TIME not in text and "/inbox" not in text and "ledger_id" not in text
    assert json.loads(text) == told


def test_equal_on_nodes_that_differ_in_time_and_place() -> None:
    here = manifest(facts.folded(1))
    there = manifest(facts.folded(1, time="2031-01-01T00:00:00Z", location="/elsewhere", registry="other", seconds=9.0))
    assert version_json(here) == version_json(there)


def test_the_first_version_has_no_parent() -> None:
    told = version_manifest(
        origin=facts.initialised(), head=Head(), version=1, dtype="F32", scale={}, tensors={}, contributions=[]
    )
    assert told["parent"] is None and told["groups"] == [] and told["dtype"] == "F32"


def test_a_long_history_is_bounded() -> None:
    told = manifest(*(facts.folded(number) for number in range(1, LISTED_CONTRIBUTIONS + 20)))
    assert len(told["contributions"]) == LISTED_CONTRIBUTIONS
    assert told["contributions"][-1]["generation"] == LISTED_CONTRIBUTIONS + 19
    assert model_card(told).count("\n| ") <= 52


def test_one_line_per_contribution_and_tensor_in_a_fixed_order() -> None:
    told = manifest(*(facts.folded(number) for number in range(1, 6)))
    lines = version_json(told).decode().splitlines()
    assert sum(line.startswith('    {"content"') for line in lines) == 5
    assert version_json(dict(reversed(told.items()))) == version_json(told)
    assert version_json(told).endswith(b"}\n")


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), _nested)))
def test_it_reads_back_whatever_it_holds(document: dict) -> None:
    assert json.loads(version_json(document)) == document


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError):
        version_json(manifest(facts.folded(1, norm=float("nan"))))


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=300))
def test_no_name_breaks_out_of_the_card(name: str) -> None:
    quiet = model_card(manifest(facts.folded(1, name="quiet", groups=GROUPS)))
    card = model_card(manifest(facts.folded(1, name=name, groups=GROUPS)))
    assert len(card.splitlines()) == len(quiet.splitlines())
    row = next(line for line in card.splitlines() if line.startswith("| 1 |"))
    assert row.count("|") == 7
    assert not set(row.split("|")[2]) & set("<>[]()`*!#\\\n\r\t\u202e\x1b")


@pytest.mark.parametrize("name", ["a|b", "](http://x)", "<script>", "x\n# owned", "\x1b[31m", "`rm`", "\u202eevil"])
def test_hostile_names_are_defused(name: str) -> None:
    card = model_card(manifest(facts.folded(1, name=name)))
    assert name not in card and "| 1 |" in card


def test_the_card_begins_with_front_matter() -> None:
    lines = model_card(manifest(facts.folded(1, groups=GROUPS))).splitlines()
    assert lines[0] == "---" and "- merge" in lines[: lines.index("---", 1)]
    assert "50.0 %" in "\n".join(lines)
