"""The ledger on disk keeps the contract of every ledger."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.errors import FatalError
from mergenode.ledger.records import Fact
from mergenode.ports.ledger_store import LedgerStore
from mergenode.types import Head
from tests.support.facts import (
    digest,
    discovered,
    duplicate,
    folded,
    initialised,
    pruned,
    published,
    rejected,
    restated,
    retracted,
)
from tests.support.ledger_contract import LedgerContract
from tests.support.memory_ledger import MemoryLedger


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Iterator[SqliteLedger]:
        with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
            yield ledger


def test_facts_survive_closing_and_opening(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised(), discovered(1), folded(1), published(1))
        before = ledger.facts(), ledger.head(), ledger.counts()
    with closing(SqliteLedger(path)) as ledger:
        assert (ledger.facts(), ledger.head(), ledger.counts()) == before
        assert ledger.append(folded(2)) == 5
        assert ledger.verify() == []


def test_a_reader_answers_what_the_writer_committed(tmp_path: Path) -> None:
    path = tmp_path / "a #1?%20.sqlite"
    with closing(SqliteLedger(path)) as ledger, closing(open_reader(path)) as reader:
        ledger.append(initialised(), folded(1))
        assert reader.by_content(digest(1)) == folded(1)
        assert reader.head() == ledger.head()
        ledger.append(published(1))
        assert reader.head().version == 1
        assert reader.verify() == []


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.close()
    ledger.close()


def test_a_reader_of_nothing_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"absent\.sqlite") as refused:
        open_reader(tmp_path / "absent.sqlite")
    assert refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_writer_without_a_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="cannot open the ledger"):
        SqliteLedger(tmp_path / "absent" / "ledger.sqlite")


@settings(deadline=None, max_examples=30)
@given(script=st.lists(st.tuples(st.sampled_from("drfpDx"), st.integers(1, 4)), max_size=16))
def test_any_history_answers_like_the_oracle(script: list[tuple[str, int]]) -> None:
    oracle = MemoryLedger()
    with TemporaryDirectory() as folder, closing(SqliteLedger(Path(folder) / "ledger.sqlite")) as ledger:
        for each in (oracle, ledger):
            each.append(initialised())
        for letter, number in script:
            fact = _scripted(letter, number, oracle.head())
            assert _accepts(ledger, fact) == _accepts(oracle, fact)
        assert _answers(ledger) == _answers(oracle)
        assert ledger.verify() == oracle.verify() == []


def _scripted(letter: str, number: int, head: Head) -> Fact:
    """A fact that follows, or, for some letters and heads, one that does not."""
    generation = head.generation + 1
    match letter:
        case "d":
            return discovered(number)
        case "r":
            return rejected(number)
        case "D":
            return duplicate(number)
        case "f":
            return folded(generation, content=digest(generation - (number == 4)))
        case "p":
            return published(head.version + 1, generation=head.generation)
        case _:
            return pruned(number)


def _accepts(ledger: LedgerStore, fact: Fact) -> bool:
    try:
        ledger.append(fact)
    except FatalError:
        return False
    return True


def _answers(ledger: LedgerStore) -> list[object]:
    keys = [("inbox", f"m{number}", f"r{number}") for number in range(1, 20)]
    return [
        list(ledger.facts()),
        ledger.head(),
        ledger.counts(),
        list(ledger.versions()),
        ledger.outcomes(keys),
        ledger.discovered(keys),
        list(ledger.folds()),
        list(ledger.facts(name="m1", newest=1)),
        list(ledger.facts(name="m2", kinds=["rejected", "folded"], newest=3)),
        [ledger.by_content(digest(number)) for number in range(20)],
    ]


def test_a_file_of_the_first_schema_becomes_one_of_this(tmp_path: Path) -> None:
    """A ledger written before contributions could be retracted: what it folded is what is in the merge."""
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised(), folded(1), folded(2))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE quarantine")
        connection.execute("DROP TABLE members")
        connection.execute("DROP INDEX facts_by_content")
        connection.execute("CREATE UNIQUE INDEX folded_once ON facts (content) WHERE kind = 'folded'")
        connection.execute("PRAGMA user_version = 1")
    with closing(SqliteLedger(path)) as ledger:
        assert [fact.name for _, fact in ledger.members()] == ["m1", "m2"]
        ledger.append(retracted(1), restated(3, 1))
        ledger.append(folded(1, generation=4, count=2))
        assert [fact.name for _, fact in ledger.members()] == ["m2", "m1"]
        assert ledger.verify() == []
