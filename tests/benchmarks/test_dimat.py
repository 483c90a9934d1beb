"""The benchmark of mixing: it goes on where it was, and says when a promise does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.dimat import running
from benchmarks.dimat.curves import draw
from benchmarks.dimat.plan import ROWS, cells
from benchmarks.dimat.running import Result, run
from benchmarks.dimat.summary import broken, summarise, table
from mergenode.demo.peers.fashion import Fashion, load_fashion
from mergenode.demo.peers.network import Recipe

RECIPE = Recipe(width=4, first_passes=1, calibration=100)


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = load_fashion()
    monkeypatch.setattr(running, "load_fashion", lambda: Fashion(whole.training.first(1000), whole.test.first(100)))
    running._circle.cache_clear()
    yield
    running._circle.cache_clear()


def test_the_plan_has_every_row_once_per_split_and_seed() -> None:
    plan = list(cells(3, (0, 1), RECIPE))
    assert len(plan) == len({cell.name for cell in plan}) == 2 * (5 + 6 + 6)
    assert {cell.name for cell in plan}.isdisjoint(cell.name for cell in cells(4, (0, 1), RECIPE))


@pytest.mark.usefixtures("_few")
def test_results_are_kept_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [cell for cell in cells(2, (0,), RECIPE, ("iid",)) if cell.row.name in ("local", "plain", "activations")]
    said: list[str] = []
    found = run(plan, tmp_path, said.append)
    assert len(said) == 3
    for each in found:
        assert sum(each["images"]) == 1000
        assert len(each["steps"]) == 2
        assert len(each["steps"][0]["trained"]) == len(each["steps"][0]["mixed"]) == 5
        assert 0 <= each["one_average"] <= 1
    assert len({str(each["steps"][0]["trained"]) for each in found}) == 1

    def never(*_: object) -> Result:
        raise AssertionError("played again")

    monkeypatch.setattr(running, "play", never)
    assert run(plan, tmp_path, said.append) == found
    draw(summarise(found), tmp_path / "dimat.png")
    assert (tmp_path / "dimat.png").stat().st_size > 1000


def made(split: str, row: str, seed: int, first: float, last: float, final: float | None = None) -> Result:
    def step(round: int, mixed: float) -> Result:
        return {"round": round, "trained": [0.8] * 5, "mixed": [mixed] * 5, "distance": 1.0, "moved": 0.5}

    steps = [step(0, first), step(1, last)]
    return {"split": split, "row": row, "seed": seed, "steps": steps, "one_average": final, "cpu_seconds": 1.0}


def results(activations: tuple[float, float]) -> list[Result]:
    both: list[Result] = []
    for seed in range(3):
        both += [made("iid", "local", seed, 0.8, 0.82 + seed / 100, 0.6), made("iid", "plain", seed, 0.3, 0.85, 0.8)]
        both.append(made("iid", "activations", seed, *activations))
    return both


def test_promises_that_hold_and_those_that_do_not() -> None:
    assert broken(summarise(results((0.70, 0.835)))) == []
    assert [line[:15] for line in broken(summarise(results((0.55, 0.8))))] == ["after the first", "after the last "]


def test_the_table_has_means_and_spreads() -> None:
    lines = table(summarise(results((0.7, 0.86)))).splitlines()
    assert lines[2] == "| alike | local only | 0.800 |  | 0.830 ± 0.010 | 0.600 ± 0.000 |"
    assert lines[4] == "| alike | activation matching | 0.800 | 0.700 | 0.860 ± 0.000 |  |"
    assert len(lines) == 5
    assert {row.name for row in ROWS} > {"local", "plain", "activations"}
