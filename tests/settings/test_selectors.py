"""The section ``selector``: its defaults, and what it does not go together with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.bootstrap.selecting import identity_of, options_of
from mergenode.errors import UsageError
from mergenode.settings import Settings, load_settings

TASK = "task: {entrypoint: 'a:Task'}\n"


def loaded(directory: Path, written: str) -> Settings:
    file = directory / "node.yaml"
    file.write_text(f"base: ./base\nregistries: []\n{written}\n")
    return load_settings(file, {})


def test_everything_is_folded_unless_asked_otherwise(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").selector.name == "all"
    assert loaded(tmp_path, "").selector.limit is None


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("selector: {name: frank_wolfe}", "set task.entrypoint"),
        (TASK + "selector: {name: frank_wolfe}\nmixer: {name: dimat}", "no pool to choose from"),
        (TASK + "selector: {name: frank_wolfe}\nmixer: {name: union}", "mixer.name: union"),
        (TASK + "selector: {name: frank_wolfe}\nmethod: {name: regmean}", "side-cars"),
        (TASK + "selector: {name: frank_wolfe, step: schedule, away: true}", "away: false"),
        (TASK + "selector: {name: frank_wolfe, gap: 1}", "less than 1"),
        (TASK + "selector: {name: frank_wolfe, round: 3}", "rounds"),
        (TASK + "selector: {name: frank_wolfe, limit: 0}", "at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        loaded(tmp_path, written)
    assert said in f"{refused.value.message} {refused.value.hint}"


def test_options_in_the_words_of_the_selectors(tmp_path: Path) -> None:
    def options(written: str) -> object:
        return options_of(loaded(tmp_path, TASK + f"selector: {{name: frank_wolfe, {written}}}").selector)

    assert (options("").variant, options("").step, options("").soft) == ("away", "line", 1)
    assert (options("step: schedule").variant, options("step: schedule").step) == ("plain", "schedule")
    assert options("away: false").variant == "plain"
    assert (options("variant: soft, vertices: 3").soft, options("variant: soft, step: schedule").step) == (3, "line")
    assert options("granularity: layers").by_group


def test_how_the_pool_is_read_is_no_other_question(tmp_path: Path) -> None:
    def identity(written: str) -> object:
        return identity_of(loaded(tmp_path, TASK + f"selector: {{name: frank_wolfe, {written}}}"))

    assert identity("") == identity("index: false") == identity("exact: 3") == identity("limit: 7")
    assert len({identity(""), identity("edition: 2"), identity("rounds: 3"), identity("batches: 1")}) == 4


@pytest.mark.parametrize(
    ("written", "method", "expected"),
    [("auto", "task_arithmetic", "barycentric"), ("auto", "tsvm", "relative"), ("barycentric", "iso", "barycentric")],
)
def test_methods_with_a_size_of_their_own_get_weights_with_a_mean_of_one(
    tmp_path: Path, written: str, method: str, expected: str
) -> None:
    settings = loaded(
        tmp_path, TASK + f"selector: {{name: frank_wolfe, weights: {written}}}\nmethod: {{name: {method}}}"
    )
    assert settings.selector.weights_for(settings.method.name) == expected
