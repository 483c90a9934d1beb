"""A version is scored after it is visible, and nothing that goes wrong with that holds it up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mergenode.daemon.contribute import Line
from mergenode.daemon.scoring import score
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.ledger.records import Published, Scored
from mergenode.ports.engine import Evaluator
from tests.support.fake_node import FakeNode


def scoring(answer: Callable[[Path], Mapping[str, float]]) -> Evaluator:
    @contextmanager
    def open_task() -> Iterator[Callable[[Path], Mapping[str, float]]]:
        yield answer

    return open_task


def published_node() -> tuple[FakeNode, Line, Published]:
    node = FakeNode(once=True)
    node.put("one")
    loop = node.start()
    node.drain(loop)
    fact = node.facts("published")[-1]
    assert isinstance(fact, Published)
    return node, loop.line, fact


def test_scores_are_a_fact_about_the_version() -> None:
    node, line, version = published_node()
    asked: list[Path] = []

    def evaluate(path: Path) -> Mapping[str, float]:
        asked.append(path)
        return {"english": 0.75}

    fact = score(replace(line, scorer=scoring(evaluate)), version)
    assert isinstance(fact, Scored) and fact.scores == {"english": 0.75}
    assert (fact.version, fact.generation) == (version.version, version.generation)
    assert node.facts("scored") == [fact] and asked == [Path(version.path)]


@pytest.mark.parametrize(
    "error",
    [
        TransientError(TransientReason.TASK_FAILED, "evaluate() raised", hint="look"),
        FatalError("there is no such class", hint="look"),
    ],
)
def test_a_plugin_that_fails_is_told_and_holds_nothing_up(error: Exception) -> None:
    node, line, version = published_node()

    def evaluate(path: Path) -> Mapping[str, float]:
        raise error

    assert score(replace(line, scorer=scoring(evaluate)), version) is None
    assert node.facts("scored") == []


def test_without_scores_there_is_no_fact() -> None:
    node, line, version = published_node()
    assert score(line, version) is None
    assert score(replace(line, scorer=scoring(lambda path: {})), version) is None
    assert node.facts("scored") == []
