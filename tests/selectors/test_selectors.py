"""The table: every selector by name, its options checked."""

from __future__ import annotations

from math import inf, nan

import pytest

from mergenode.errors import UsageError
from mergenode.selectors import SELECTORS, build_selector
from mergenode.selectors.contract import Options


@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_without_options_is_complete(name: str) -> None:
    selector = build_selector(name, {})
    assert selector.name == name
    assert selector.needs == (selector.options.needs if selector.options else frozenset())


def test_all_asks_nothing() -> None:
    assert build_selector("all", {}).needs == frozenset()


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"scores", "losses"}),
        ({"variant": "plain", "step": "schedule"}, {"scores"}),
        ({"step": "short", "smoothness": 2.0}, {"scores", "distances"}),
        ({"soft": 4}, {"scores", "losses"}),
    ],
)
def test_options_say_what_has_to_be_there(options: dict[str, object], needs: set[str]) -> None:
    assert build_selector("frank_wolfe", options).needs == needs


def test_the_defaults_are_those_of_the_options() -> None:
    assert build_selector("frank_wolfe", {}).options == Options()


@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("frankwolfe", {}, "there is no selector 'frankwolfe'", "frank_wolfe"),
        ("frank_wolfe", {"smoothnes": 1.0}, "no option 'smoothnes'", "smoothness"),
        ("all", {"soft": 1}, "no option 'soft'", "no options"),
        ("frank_wolfe", {"variant": "hard"}, "variant is 'hard'", "plain, away, pairwise"),
        ("frank_wolfe", {"step": "armijo"}, "step is 'armijo'", "schedule, short, line"),
        ("frank_wolfe", {"step": "schedule"}, "does not go with step 'schedule'", "plain"),
        ("frank_wolfe", {"step": "short"}, "needs smoothness", "line"),
        ("frank_wolfe", {"step": "short", "smoothness": nan}, "needs smoothness", "line"),
        ("frank_wolfe", {"soft": 2, "step": "schedule", "variant": "plain"}, "soft 2 does not go", "line"),
        ("frank_wolfe", {"soft": 0}, "soft is 0", ""),
        ("frank_wolfe", {"rounds": 0}, "rounds is 0", ""),
        ("frank_wolfe", {"inner": -1}, "inner is -1", ""),
        ("frank_wolfe", {"tolerance": nan}, "tolerance is nan", ""),
        ("frank_wolfe", {"tolerance": inf}, "tolerance is inf", ""),
        ("frank_wolfe", {"tolerance": -1.0}, "tolerance is -1", ""),
    ],
)
def test_what_does_not_go_is_refused_with_a_way_out(
    name: str, options: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        build_selector(name, options)
    assert hint in refused.value.hint
