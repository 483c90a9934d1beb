"""``mergenode pool``: what was chosen, and why; what could be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import facts


@pytest.fixture
def chosen(ledger, config: Path) -> Path:
    for fact in (
        facts.initialised(), *(facts.discovered(number) for number in (1, 2, 3, 4)), facts.rejected(4),
        facts.selected(m1=0.5, m2=0.25, m3=0.0), facts.folded(1, weight=0.5), facts.folded(2, weight=0.25),
    ):  # fmt: skip
        ledger.append(fact)
    ledger.append(facts.deselected(2, weight=0.25), facts.restated(3, 1))
    return config


def test_rank_tells_score_weight_and_why(run, chosen: Path) -> None:
    document = json.loads(run("pool", "rank", "-c", chosen, "--json").stdout)
    assert document["schema"] == "mergenode.pool-rank/1"
    assert (document["loss"], document["gap"], document["rounds"], document["stopped"]) == (0.25, 0.001, 2, "gap")
    assert [(entry["name"], entry["weight"], entry["why"]) for entry in document["contributions"]] == [
        ("m1", 0.5, "chosen"), ("m2", 0.25, "chosen"), ("m3", 0.0, "useless"),
    ]  # fmt: skip
    text = run("pool", "rank", "-c", chosen).stdout
    assert "inbox/m1" in text and "has weight" in text and "would not lower the loss" in text
    short = run("pool", "rank", "-c", chosen, "--limit", "1").stdout
    assert "inbox/m2" not in short and "and 2 more" in short


def test_list_holds_what_can_be_chosen(run, chosen: Path) -> None:
    entries = json.loads(run("pool", "list", "-c", chosen, "--json").stdout)["pool"]
    assert [(entry["name"], entry["in_merge"], entry["weight"]) for entry in entries] == [
        ("m1", True, 0.5), ("m2", False, None), ("m3", False, None),
    ]  # fmt: skip
    assert "inbox/m3" in run("pool", "list", "-c", chosen).stdout


def test_what_was_evicted_is_told_apart_until_it_is_asked_for(run, ledger, chosen: Path) -> None:
    ledger.append(facts.rejected(3, reason="evicted", content=facts.digest(3), message="m3: evicted, too many"))
    document = json.loads(run("pool", "list", "-c", chosen, "--json").stdout)
    assert [entry["name"] for entry in document["pool"]] == ["m1", "m2"]
    assert [(entry["name"], entry["message"]) for entry in document["evicted"]] == [("m3", "m3: evicted, too many")]
    assert "too many" in run("pool", "list", "-c", chosen).stdout
    ranked = json.loads(run("pool", "rank", "-c", chosen, "--json").stdout)["contributions"]
    assert {entry["name"]: entry["evicted"] for entry in ranked} == {"m1": False, "m2": False, "m3": True}
    assert "evicted since" in run("pool", "rank", "-c", chosen).stdout
    assert "evicted" in run("status", "-c", chosen).stdout
    ledger.append(facts.discovered(3))
    document = json.loads(run("pool", "list", "-c", chosen, "--json").stdout)
    assert len(document["pool"]) == 3 and document["evicted"] == []
    assert "evicted since" not in run("pool", "rank", "-c", chosen).stdout


def test_nothing_selected_yet_is_told_with_what_to_do(run, history, config: Path) -> None:
    result = run("pool", "rank", "-c", config)
    assert result.exit_code == 1 and "nothing was selected yet" in result.stderr and "frank_wolfe" in result.stderr


def test_history_and_status_know_of_selections(run, chosen: Path) -> None:
    text = run("history", "-c", chosen).stdout
    assert "2 of 3" in text and "m1 0.5, m2 0.25" in text and "weighed otherwise" in text
    assert json.loads(run("status", "-c", chosen, "--json").stdout)["pending"] == []
