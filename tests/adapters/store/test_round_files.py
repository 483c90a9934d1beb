"""The state of a round on disk: whole, readable or refused; nothing lies about."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.store.round_files import FolderRounds
from mergenode.errors import FatalError
from mergenode.ledger.round_state import Phase, Refusal, RoundState, Taken, parse_state, state_text

STATE = RoundState(
    number=3, epoch=7, phase=Phase.MIX, start="a.safetensors", trained="b.safetensors", root="ab" * 32, degree=2,
    metrics={"loss": 0.5}, parents={"01" * 16: ("cd" * 32, 0.25)},
    taken=(Taken(node="02" * 16, root="ef" * 32, epoch=6, file="c.safetensors", degree=2, weight=0.3, distance=1.0),),
    refused=(Refusal(node="03" * 16, root="12" * 32, code="not_finite", message="NaN"),), missing=("04" * 16,),
    recipe={"coefficients": [0.3], "rule": "sum", "share": 1.0, "drop": 0}, spread=0.5, arrivals=(1.0, 2.0),
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> FolderRounds:
    store = FolderRounds(tmp_path / "rounds")
    store.prepare()
    store.prepare()
    return store


def test_a_state_comes_back(store: FolderRounds) -> None:
    assert store.load() is None
    store.save(STATE)
    assert store.load() == STATE and state_text(parse_state(state_text(STATE), "x")) == state_text(STATE)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema":"mergenode.round/2"}', state_text(STATE).replace('"mix"', '"stir"'),
             state_text(STATE).replace('"number"', '"colour"'), state_text(STATE).replace('"drop"', '"drop'), "\xff"]
)  # fmt: skip
def test_what_is_no_state_is_refused(store: FolderRounds, text: str) -> None:
    (store.folder / "round.json").write_text(text, encoding="latin-1")
    with pytest.raises(FatalError, match=r"round\.json: cannot be read"):
        store.load()


def test_files_are_installed_kept_and_removed(store: FolderRounds, tmp_path: Path) -> None:
    store.save(STATE)
    store.staging("a").write_bytes(b"1")
    assert not store.path("a").exists()
    store.install("a")
    other = tmp_path / "other"
    other.write_bytes(b"2")
    store.keep(other, "b")
    store.keep(other, "b")
    other.unlink()
    assert (store.path("a").read_bytes(), store.path("b").read_bytes()) == (b"1", b"2")
    store.staging("c").write_bytes(b"half")
    store.tidy(["b"])
    assert sorted(path.name for path in store.folder.iterdir()) == ["b", "round.json"]


def test_where_there_are_no_links_a_copy_is_made(
    store: FolderRounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*places: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "other").write_bytes(b"2" * 3_000_000)
    store.keep(tmp_path / "other", "b")
    assert store.path("b").read_bytes() == b"2" * 3_000_000
