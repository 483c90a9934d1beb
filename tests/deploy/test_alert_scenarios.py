"""Every alert has its scenario, every runbook can be typed, and the rules they are played with are the real ones."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import yaml

from tests.deploy.observability.all_scenarios import SCENARIOS
from tests.deploy.observability.runbook import placeholders
from tests.deploy.observability.shorter import SHORTER, rules, seconds, shortened, timed
from tests.support.observability import ALERTS, ROOT, RULES, RUNBOOKS, commands

PLACES = {"NAME", "PATH", "PATTERN", "FILE", "FIRST", "SECOND", "VERSION", "NODE", "GENERATION"}


def test_every_alert_has_exactly_one_scenario() -> None:
    """``provokes`` refuses a second one."""
    assert set(SCENARIOS) == set(ALERTS)
    assert len({each.play for each in SCENARIOS.values()}) == len(ALERTS)


@pytest.mark.parametrize("alert", sorted(SCENARIOS))
def test_a_scenario_says_its_fault_and_what_else_it_raises(alert: str) -> None:
    scenario = SCENARIOS[alert]
    assert inspect.isgeneratorfunction(scenario.play)
    assert set(scenario.beside) <= set(ALERTS) - {alert} and all(scenario.beside.values())
    text = (ROOT / "docs" / "observability.md").read_text()
    beside = ", ".join(f"{name}: {why}" for name, why in scenario.beside.items())
    row = f"| {alert} | {'; '.join(filter(None, [scenario.fault, scenario.altered]))} | {beside} |"
    assert row in text, row


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_the_words_of_a_runbook_that_stand_for_something_are_known(alert: str) -> None:
    """The end-to-end run types every command; a word that nobody replaces would end it."""
    for command in commands((RUNBOOKS / f"{alert}.md").read_text()):
        assert placeholders(command) <= PLACES, command


def test_durations_are_shorter_and_keep_their_order() -> None:
    lengths = [(seconds(before), seconds(after)) for before, after in SHORTER.items()]
    assert lengths == sorted(lengths)
    assert all(after < before for before, after in lengths if before)


def test_nothing_but_durations_differs() -> None:
    def without(document: dict[str, Any]) -> list[dict[str, Any]]:
        every = [rule for group in document["groups"] for rule in group["rules"]]
        return [{**rule, "expr": _timeless(rule["expr"]), "for": None} for rule in every]

    real, played = yaml.safe_load(RULES.read_text()), shortened()
    assert rules()["groups"] == real["groups"]
    assert [group["name"] for group in real["groups"]] == [group["name"] for group in played["groups"]]
    assert without(played) == without(real)
    assert without(played) != without(rules(job='job="other"'))


def test_all_durations_are_in_the_tables_as_such() -> None:
    """Windows, offsets and numbers of seconds. The life of a certificate stays: that is real time."""
    told = list[str]()
    rules(shorten=lambda duration: told.append(duration) or duration)
    assert set(told) == set(SHORTER)
    assert timed("x[1d] offset 2h > <15m>", SHORTER.__getitem__) == "x[60s] offset 44s > 11"
    long = {number for rule in ALERTS.values() for number in re.findall(r"\b\d{3,}\b", rule["expr"])}
    assert long == {"900", "600", "86400", "604800"}


def _timeless(expr: str) -> str:
    """Without windows, offsets and the numbers of seconds."""
    short = {str(seconds(SHORTER[each])) for each in ("15m", "10m", "1d")}
    numbers = "|".join(sorted({"900", "600", "86400", *short}, key=len, reverse=True))
    expr = re.sub(r"\[\d+[smhd]\]", "[]", expr)
    expr = re.sub(r"offset \d+[smhd]", "offset", expr)
    return re.sub(rf"(?<=> )({numbers})(?= |$)|(?<=, )({numbers})(?=\))", "S", expr)
