"""At 100,000 facts every question is still answered by an index, or from a table that stays small."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.adapters.store.sqlite_reader import SqliteReader
from mergenode.ledger.records import Fact
from tests.support.facts import digest, discovered, folded, initialised, pruned, published, rejected

pytestmark = pytest.mark.slow

FOLDS = 20_000
FACTS = 5 * FOLDS + 1
KEYS = [("inbox", "m7", "r7"), ("inbox", "absent", "r0")]


def _history() -> Iterator[Fact]:
    """Per fold: discovered, rejected (a bad revision), folded, published, the version before pruned."""
    yield initialised()
    for number in range(1, FOLDS + 1):
        yield discovered(number)
        yield rejected(number, name=f"m{number % 50}", revision=f"bad{number}")
        yield folded(number)
        yield published(number)
        yield pruned(number - 1) if number > 1 else discovered(0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scale") / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        assert ledger.append(*_history()) == FACTS
    return path


QUESTIONS: dict[str, Callable[[SqliteReader], object]] = {
    "initialised": lambda ledger: ledger.initialised(),
    "head": lambda ledger: ledger.head(),
    "outcomes": lambda ledger: ledger.outcomes(KEYS),
    "discovered": lambda ledger: ledger.discovered(KEYS),
    "by_content": lambda ledger: ledger.by_content(digest(7)),
    "no such content": lambda ledger: ledger.by_content(digest(10**9)),
    "newest": lambda ledger: ledger.facts(newest=20),
    "newest of a rare kind": lambda ledger: ledger.facts(kinds=["initialised"], newest=20),
    "newest of kinds": lambda ledger: ledger.facts(kinds=["folded", "rejected"], newest=20),
    "newest of a name": lambda ledger: ledger.facts(name="m7", newest=20),
    "newest of a name and kinds": lambda ledger: ledger.facts(name="m7", kinds=["rejected"], newest=20),
    "counts": lambda ledger: ledger.counts(),
    "versions": lambda ledger: ledger.versions(),
    "next fold": lambda ledger: next(ledger.folds(after=FACTS - 10)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_reads_no_more_than_it_answers(path: Path, question: str) -> None:
    """The measure is SQLite's own count of steps, in hundreds: independent of machine and load."""
    with closing(open_reader(path)) as reader:
        ticks = 0

        def tick() -> int:
            nonlocal ticks
            ticks += 1
            return 0

        reader._connection.set_progress_handler(tick, 100)
        QUESTIONS[question](reader)
        reader._connection.set_progress_handler(None, 0)
    assert ticks <= 40, "more than 4,000 steps: some query walks through the history"


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_planned_on_an_index(path: Path, question: str) -> None:
    with closing(open_reader(path)) as reader:
        statements: list[str] = []
        reader._connection.set_trace_callback(statements.append)
        QUESTIONS[question](reader)
    queries = [statement for statement in statements if statement.startswith("SELECT")]
    assert queries
    with closing(sqlite3.connect(path)) as connection:
        for query in queries:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
            assert not any("TEMP B-TREE" in step for step in plan), (query, plan)
            for step in plan:
                # Scanning is right for two small tables, and for `facts` when the newest few end it.
                small = step in ("SCAN counts", "SCAN versions USING INDEX versions_available")
                assert small or not step.startswith("SCAN") or "LIMIT 20" in query, (query, plan)


def test_counts_and_versions_follow_from_small_tables(path: Path) -> None:
    with closing(open_reader(path)) as reader:
        assert reader.counts() == {
            "initialised": 1,
            "discovered": FOLDS + 1,
            "rejected": FOLDS,
            "folded": FOLDS,
            "published": FOLDS,
            "pruned": FOLDS - 1,
        }
        assert [fact.version for fact in reader.versions()] == [FOLDS]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM counts").fetchone() == (6,)


def test_the_folds_stream_in_order(path: Path) -> None:
    with closing(open_reader(path)) as reader:
        generations = [fact.generation for _, fact in reader.folds(after=FACTS // 2)]
    assert generations == list(range(FOLDS // 2 + 1, FOLDS + 1))


def test_an_append_costs_the_same_as_at_the_start(path: Path) -> None:
    """Runs last: it changes the ledger that the tests of this module share."""
    with closing(SqliteLedger(path)) as ledger:
        ticks = 0

        def tick() -> int:
            nonlocal ticks
            ticks += 1
            return 0

        ledger._connection.set_progress_handler(tick, 100)
        ledger.append(discovered(FOLDS + 1), folded(FOLDS + 1), published(FOLDS + 1), pruned(FOLDS))
        ledger._connection.set_progress_handler(None, 0)
    assert ticks <= 40
