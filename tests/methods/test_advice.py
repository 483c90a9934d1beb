"""Which method to take."""

from __future__ import annotations

import pytest

from mergenode.methods.advice import Choice, Measured, Situation, Wishes, nearest_setting, rank, within_error

COUNTS = {"light": [2, 4, 8, 9], "strong": [2, 4, 8, 9], "many": [9, 18, 36]}
NORMS = {"light": 0.02, "strong": 0.04, "many": 0.03}


def choice(method: str, *, needs: str = "", **fields: object) -> Choice:
    told = {"options": {}, "statistics": 100, "memory": 10, "subtracts": True, "combines": True}
    return Choice(method=method, needs=frozenset(needs.split()), **(told | fields))  # type: ignore[arg-type]  # any field


def figure(method: str, kept: float, error: float = 0.01, **options: object) -> Measured:
    return Measured(method, options, "light", 8, kept, error)


CHOICES = [
    choice("opcm", subtracts=False, combines=False),
    choice("ties", statistics=300),
    choice("aswudi", statistics=400, memory=50, options={"sides": "both"}),
    choice("fisher", needs="fisher"),
    choice("not measured"),
]
FIGURES = [figure("opcm", 0.6), figure("ties", 0.8), figure("aswudi", 0.9, sides="both"), figure("fisher", 0.95)]


def order(wishes: Wishes) -> list[str]:
    return [each.choice.method for each in rank(CHOICES, FIGURES, wishes)]


@pytest.mark.parametrize(
    ("count", "norm", "expected"),
    [
        (3, 0.019, ("light", 4)),
        (8, 0.05, ("strong", 8)),
        (8, 0.0282, ("light", 8)),
        (8, 0.0284, ("strong", 8)),
        (8, None, ("strong", 8)),
        (0, None, ("strong", 2)),
        (13, 0.02, ("light", 9)),
        (14, 0.02, ("many", 18)),
        (20, 0.02, ("many", 18)),
        (1000, None, ("many", 36)),
    ],
)
def test_the_nearest_setting(count: int, norm: float | None, expected: tuple[str, int]) -> None:
    assert nearest_setting(Situation(count=count, relative_norm=norm), COUNTS, NORMS) == expected


def test_a_benchmark_of_one_setting_is_enough() -> None:
    assert nearest_setting(Situation(count=50), {"light": [2, 4]}, {"light": 0.1}) == ("light", 4)
    assert nearest_setting(Situation(count=1, relative_norm=0.1), {"many": [9]}, {"many": 0.1}) == ("many", 9)


def test_what_keeps_most_comes_first_and_what_was_not_measured_not_at_all() -> None:
    assert order(Wishes(side_cars=True)) == ["fisher", "aswudi", "ties", "opcm"]


def test_what_is_impossible_comes_last_with_its_reason() -> None:
    ranked = rank(CHOICES, FIGURES, Wishes(retract=True, combine=True, disk=350))
    assert [each.choice.method for each in ranked] == ["ties", "fisher", "aswudi", "opcm"]
    assert [each.against for each in ranked] == [
        (),
        ("needs side-cars: fisher",),
        ("too little disk",),
        ("retracts by replay only", "cannot be combined"),
    ]
    assert order(Wishes(memory=20))[0] == "ties"


def test_what_an_error_does_not_tell_apart_is_advised_together() -> None:
    close = [figure("opcm", 0.6), figure("ties", 0.89), figure("aswudi", 0.9, sides="both")]
    ranked = rank(CHOICES, close, Wishes())
    assert [each.choice.method for each in within_error(ranked)] == ["aswudi", "ties"]
    assert [each.choice.method for each in within_error(rank(CHOICES, FIGURES, Wishes()))] == ["aswudi"]
    assert within_error(rank(CHOICES, FIGURES, Wishes(disk=1))) == []
