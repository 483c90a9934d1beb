"""Whatever is done to the file behind the ledger's back is found by ``verify`` or refused on opening."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.errors import FatalError
from mergenode.ledger.chain import link
from mergenode.ledger.codec import encode
from tests.support.facts import (
    discovered,
    duplicate,
    folded,
    initialised,
    pruned,
    published,
    rejected,
)

FACTS = (
    initialised(),
    discovered(1),
    folded(1),
    published(1),
    rejected(2),
    duplicate(3),
    folded(2),
    published(2),
    pruned(1),
    discovered(4),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(*FACTS)
        assert ledger.verify() == []
    return path


def tamper(path: Path, *statements: str, values: tuple = ()) -> list[str]:
    """Change the file as somebody with a database tool would; returns what ``verify`` says."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement, values)
    with closing(open_reader(path)) as reader:
        return list(reader.verify())


@pytest.mark.parametrize("sequence", range(1, len(FACTS) + 1))
def test_a_changed_body_is_found(path: Path, sequence: int) -> None:
    body = encode(FACTS[sequence - 1]).replace("2026-01-02", "2026-01-03")
    findings = tamper(path, f"UPDATE facts SET body = ? WHERE sequence = {sequence}", values=(body,))
    assert f"fact {sequence}: its hash does not match its content" in findings
    assert all(finding.startswith(f"fact {sequence}: ") for finding in findings), "one change, one fact named"


@pytest.mark.parametrize("sequence", range(1, len(FACTS) + 1))
def test_a_deleted_fact_is_found_wherever_it_was(path: Path, sequence: int) -> None:
    findings = tamper(path, f"DELETE FROM facts WHERE sequence = {sequence}")
    if sequence < len(FACTS):
        assert f"fact {sequence + 1}: follows fact {sequence - 1}; facts between them are missing" in findings
    kind = FACTS[sequence - 1].kind
    assert any(finding.startswith(f"facts of kind {kind}: ") for finding in findings)


def test_two_exchanged_facts_are_found(path: Path) -> None:
    findings = tamper(
        path,
        "UPDATE facts SET sequence = 99 WHERE sequence = 5",
        "UPDATE facts SET sequence = 5 WHERE sequence = 6",
        "UPDATE facts SET sequence = 6 WHERE sequence = 99",
    )
    assert {finding[:7] for finding in findings} == {"fact 5:", "fact 6:", "fact 7:"}


@pytest.mark.parametrize("column", ["kind", "registry", "name", "revision", "content", "time"])
def test_a_column_that_says_something_else_than_the_body_is_found(path: Path, column: str) -> None:
    findings = tamper(path, f"UPDATE facts SET {column} = 'x' WHERE sequence = 7")
    assert any(finding.startswith(f"fact 7: column {column} holds 'x'") for finding in findings)


@pytest.mark.parametrize("column", ["previous", "hash"])
def test_a_changed_hash_is_found(path: Path, column: str) -> None:
    assert tamper(path, f"UPDATE facts SET {column} = '{'0' * 64}' WHERE sequence = 7")


@pytest.mark.parametrize("value", ["X'00'", "7", "''"])
def test_a_body_that_is_no_text_is_found(path: Path, value: str) -> None:
    findings = tamper(path, f"UPDATE facts SET body = {value} WHERE sequence = 7")
    assert any("fact 7" in finding for finding in findings)


def test_a_fact_with_a_valid_chain_that_breaks_the_rules_is_found(path: Path) -> None:
    """Somebody who knows how to hash appends a second fold of the same content."""
    with closing(sqlite3.connect(path)) as connection:
        (previous,) = connection.execute("SELECT hash FROM facts WHERE sequence = 10").fetchone()
    body = encode(folded(3, content=FACTS[2].content))
    own = link(previous, 11, body)
    findings = tamper(
        path,
        "INSERT INTO facts SELECT 11, kind, registry, 'm3', 'r3', content, time, "
        f"'{body}', '{previous}', '{own}' FROM facts WHERE sequence = 3",
        "UPDATE counts SET facts = facts + 1 WHERE kind = 'folded'",
    )
    assert len(findings) == 1
    assert findings[0].startswith("fact 11: content blake3:")
    assert "is in the merge as 'm1'" in findings[0]


def test_a_body_that_is_not_canonical_is_found_even_with_a_valid_hash(path: Path) -> None:
    body = encode(FACTS[-1]).replace(",", ", ")
    with closing(sqlite3.connect(path)) as connection:
        (previous,) = connection.execute("SELECT previous FROM facts WHERE sequence = 10").fetchone()
    findings = tamper(
        path, f"UPDATE facts SET body = '{body}', hash = '{link(previous, 10, body)}' WHERE sequence = 10"
    )
    assert findings == ["fact 10: the body is not canonical"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE counts SET facts = 7 WHERE kind = 'discovered'",
        "DELETE FROM counts WHERE kind = 'discovered'",
        "INSERT INTO counts VALUES ('mixed', 1)",
        "UPDATE versions SET pruned = 0",
        "UPDATE versions SET pruned = 1",
        "UPDATE versions SET sequence = 4 WHERE version = 2",
        "DELETE FROM versions",
        "INSERT INTO versions VALUES (3, 8, 0)",
    ],
)
def test_a_derived_table_that_disagrees_is_found(path: Path, statement: str) -> None:
    assert tamper(path, statement)


def test_the_report_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised(), *(discovered(number) for number in range(1500)))
    findings = tamper(path, "UPDATE facts SET time = 'x'")
    assert len(findings) == 1001
    assert findings[-1] == "only the first 1000 findings are listed"


def _findings_or_refusal(path: Path) -> list[str]:
    """What a user sees: sentences of ``verify``, or the refusal to open the file."""
    try:
        with closing(SqliteLedger(path)) as ledger:
            return list(ledger.verify())
    except FatalError as refusal:
        assert refusal.hint
        return [refusal.message]


@pytest.mark.parametrize("keep", [0, 1, 99, 100, 4096, 8192, -4096, -1])
def test_a_truncated_file_is_found(path: Path, keep: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert _findings_or_refusal(path)


def test_every_damaged_page_is_found(path: Path) -> None:
    content = path.read_bytes()
    for start in range(0, len(content), 4096):
        path.write_bytes(content[:start] + b"\xa5" * 4096 + content[start + 4096 :])
        assert _findings_or_refusal(path), f"page at {start}"
    path.write_bytes(content)
    assert _findings_or_refusal(path) == []


def _other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE facts (sequence)")
        connection.commit()


@pytest.mark.parametrize(
    "write", [lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 9000), _other_database]
)
@pytest.mark.parametrize("open_it", [SqliteLedger, open_reader])
def test_a_file_that_is_no_ledger_is_neither_used_nor_changed(
    tmp_path: Path, write: Callable[[Path], object], open_it: Callable[[Path], object]
) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path)
    before = path.read_bytes()
    with pytest.raises(FatalError) as refused:
        open_it(path)
    assert str(path) in refused.value.message
    assert refused.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("open_it", [SqliteLedger, open_reader])
def test_the_ledger_of_a_newer_mergenode_is_left_alone(path: Path, open_it: Callable[[Path], object]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(FatalError, match="schema version 99"):
        open_it(path)


def test_a_fact_of_a_newer_mergenode_stops_the_node(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE facts SET body = replace(body, 'published', 'mixed') WHERE sequence = 8")
    with (
        closing(SqliteLedger(path)) as ledger,
        pytest.raises(FatalError, match="ledger fact 8 cannot be read"),
    ):
        ledger.head()


def test_a_lost_ledger_is_not_mixed_with_the_log_it_left_behind(path: Path) -> None:
    path.with_name("ledger.sqlite-wal").write_bytes(b"x")
    path.unlink()
    with pytest.raises(FatalError, match="is missing while"):
        SqliteLedger(path)
    assert not path.exists()


def test_what_a_killed_creation_left_behind_is_removed(tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f"ledger.sqlite.new{suffix}").write_bytes(b"half")
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.append(initialised())
        assert ledger.verify() == []
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite"]
