"""``mergenode quarantine`` and ``release`` on the ledger of a node that does not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.ledger.records import Fact, Rejected, Released
from tests.cli.conftest import HOSTILE
from tests.support.facts import digest, discovered, folded, initialised, quarantined, released

FINDING = {
    "gate": "norm", "action": "quarantine", "reason": "norm_above_median", "message": "nine times the median",
    "hint": "look", "numbers": {"ratio": 9.0, "max_ratio": 5.0},
}  # fmt: skip


@pytest.fixture
def held(ledger: SqliteLedger) -> None:
    """m1 is folded, m2 and a push are in quarantine, m4 was released."""
    ledger.append(
        initialised(), folded(1), discovered(2), quarantined(2, findings=(FINDING,)),
        quarantined(3, name="mine@abc", registry="push"), quarantined(4), released(4),
    )  # fmt: skip
    ledger.close()


def recorded(config: Path, *kinds: str) -> list[Fact]:
    reader = open_reader(config.parent / "state" / "ledger.sqlite")
    try:
        return [fact for _, fact in reader.facts(kinds=kinds)]
    finally:
        reader.close()


@pytest.mark.usefixtures("held")
def test_list_shows_what_waits_and_what_was_released(run, config: Path) -> None:
    result = run("quarantine", "list", "-c", config)
    assert result.exit_code == 0
    assert "inbox/m2" in result.stdout and "push/mine@abc" in result.stdout and "m1" not in result.stdout
    assert "released, not folded yet: inbox/m4" in result.stdout
    document = json.loads(run("quarantine", "list", "-c", config, "--json").stdout)
    assert document["schema"] == "mergenode.quarantine/1"
    assert [entry["name"] for entry in document["quarantined"]] == ["m2", "mine@abc"]
    assert [entry["name"] for entry in document["released"]] == ["m4"]


def test_nothing_is_told_as_nothing(run, config: Path, ledger: SqliteLedger) -> None:
    ledger.append(initialised())
    assert run("quarantine", "list", "-c", config).stdout == "nothing is in quarantine\n"


@pytest.mark.usefixtures("held")
def test_show_tells_what_gates_found(run, config: Path) -> None:
    result = run("quarantine", "show", "m2", "-c", config)
    assert result.exit_code == 0
    for text in ("inbox/m2", digest(2), "far from the others", "nine times the median", "ratio 9"):
        assert text in result.stdout, text
    entry = json.loads(run("quarantine", "show", digest(2), "-c", config, "--json").stdout)["entry"]
    assert entry["findings"] == [FINDING]
    story = run("show", "m2", "-c", config)
    assert "What gates found" in story.stdout and "nine times the median" in story.stdout


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("command", [("quarantine", "release"), ("release",)])
def test_a_release_is_recorded_where_no_node_runs(run, config: Path, command: tuple[str, ...]) -> None:
    result = run(*command, "m2", "-c", config, "--why", "looked at it")
    assert (result.exit_code, result.stdout) == (0, "released inbox/m2: it is folded at the next start of the node\n")
    fact = recorded(config, "released")[-1]
    assert isinstance(fact, Released)
    assert (fact.name, fact.content, fact.why, fact.location) == ("m2", digest(2), "looked at it", "/inbox/m2")
    assert fact.who


@pytest.mark.usefixtures("held")
def test_a_drop_is_recorded_where_no_node_runs(run, config: Path) -> None:
    result = run("quarantine", "drop", "mine", "m2", "-c", config, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["decision"] == "drop" and [fact["name"] for fact in document["facts"]] == ["mine@abc", "m2"]
    rejections = recorded(config, "rejected")
    assert all(isinstance(fact, Rejected) and fact.reason == "dropped" and fact.content for fact in rejections)


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m1", "'m1' is not in quarantine: its last fact is 'folded'"),
        ("m22", "nothing in quarantine is called 'm22'; did you mean 'm2'?"),
        ("m4", "'m4' was released on"),
        (digest(9), "nothing in quarantine is called"),
    ],
)
def test_what_is_not_there_is_told(run, config: Path, name: str, message: str) -> None:
    result = run("release", name, "-c", config)
    assert result.exit_code == 2 and message in result.stderr


def test_two_of_one_name_need_the_registry(run, config: Path, ledger: SqliteLedger) -> None:
    ledger.append(initialised(), quarantined(2), quarantined(3, name="m2", registry="bucket"))
    result = run("quarantine", "show", "m2", "-c", config)
    assert result.exit_code == 2 and "2 contributions 'm2' are in quarantine: inbox/m2" in result.stderr
    assert "bucket/m2" in run("quarantine", "show", "m2", "-c", config, "--registry", "bucket").stdout


def test_texts_of_others_do_nothing_to_the_terminal(run, config: Path, ledger: SqliteLedger) -> None:
    finding = FINDING | {"message": HOSTILE, "gate": HOSTILE}
    ledger.append(initialised(), quarantined(2, name=HOSTILE, message=HOSTILE, hint=HOSTILE, findings=(finding,)))
    ledger.close()
    for command in (("quarantine", "list"), ("quarantine", "show", HOSTILE), ("show", HOSTILE), ("status",)):
        result = run(*command, "-c", config)
        assert result.exit_code == 0
        assert "\x1b" not in result.stdout and "\u202e" not in result.stdout, command


@pytest.mark.usefixtures("held")
def test_status_counts_and_names_them(run, config: Path) -> None:
    result = run("status", "-c", config)
    assert "2 contributions" in result.stdout and "In quarantine" in result.stdout
    document = json.loads(run("status", "-c", config, "--json").stdout)
    assert [entry["name"] for entry in document["quarantined"]] == ["m2", "mine@abc"]
