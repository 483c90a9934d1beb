"""The folder that `mergenode certs` keeps."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mergenode.adapters.peers.access.certificate_facts import facts_in
from mergenode.adapters.peers.access.credentials import Tls, TlsFiles
from mergenode.adapters.peers.access.tokens import TokenVerifier
from mergenode.adapters.peers.access.trial_folder import TrialFolder
from mergenode.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    made = TrialFolder(tmp_path / "certs")
    made.initialise(30)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_private_keys_are_for_the_owner_alone(folder: TrialFolder) -> None:
    folder.issue("peer", "node-a", ("a",), 5)
    private = {path.name for path in folder.path.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()}
    assert private == {"ca.key", "token.key", "tls.key"}
    for path in folder.path.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder.path / "node-a").stat().st_mode) == 0o700


def test_nothing_is_replaced_unless_asked(folder: TrialFolder) -> None:
    folder.issue("peer", "node-a", ("a",), 5)
    before = contents(folder.path)
    with pytest.raises(UsageError, match="exists already"):
        folder.initialise(30)
    with pytest.raises(UsageError, match="exists already"):
        folder.issue("admin", "node-a", (), 5)
    assert contents(folder.path) == before


def test_with_force_a_pair_is_replaced_by_one_that_fits(folder: TrialFolder) -> None:
    place = folder.issue("peer", "node-a", ("a",), 5)
    before = contents(place)
    folder.initialise(30, force=True)
    folder.issue("peer", "node-a", ("b",), 5, force=True)
    after = contents(place)
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())
    tls = Tls(TlsFiles(place / "ca.crt", place / "tls.crt", place / "tls.key"), pytest.fail)
    assert tls.current()[0].names.dns == ("b",)
    assert (place / "ca.crt").read_bytes() == (folder.path / "ca.crt").read_bytes()


def test_what_was_interrupted_is_made_anew(folder: TrialFolder) -> None:
    left = folder.path / ".node-a.new"
    left.mkdir()
    (left / "tls.key").write_text("half")
    (left / "tls.key").chmod(0o644)
    place = folder.issue("peer", "node-a", ("a",), 5)
    assert b"half" not in contents(place).values() and not left.exists()


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "ca.crt", "token.key", "a" * 64, "a b", "ü"])
def test_names_that_could_lead_elsewhere_are_refused(folder: TrialFolder, name: str) -> None:
    for make in (lambda: folder.issue("peer", name, ("a",), 5), lambda: folder.token(name, ["x"], None, 1, "m")):
        with pytest.raises(UsageError, match="cannot be the name"):
            make()


def test_without_an_authority_the_way_is_shown(tmp_path: Path) -> None:
    empty = TrialFolder(tmp_path)
    for make in (lambda: empty.issue("peer", "a", ("a",), 5), lambda: empty.token("a", ["x"], None, 1, "m")):
        with pytest.raises(UsageError) as told:
            make()
        assert "mergenode certs init" in told.value.hint


def test_a_token_says_who_what_and_how_much(folder: TrialFolder) -> None:
    verifier = TokenVerifier(folder.path / "tokens.json", "mergenode", "mergenode certs", pytest.fail)
    claims = verifier.verify(folder.token("team-x", ["main", "with blanks"], 10 << 30, 7, "mergenode"))
    assert claims.subject == "team-x" and claims.quota == 10 << 30
    assert claims.scopes == {"push:main", "push:with blanks"}
    assert verifier.verify(folder.token("team-x", ["main"], None, 7, "mergenode")).quota is None


def test_facts_for_people(folder: TrialFolder) -> None:
    place = folder.issue("pusher", "team-x", (), 5)
    (facts,) = facts_in(place / "tls.crt")
    assert facts.names == ("spiffe://mergenode/pusher/team-x",) and facts.roles == ("pusher",)
    assert (facts.authority, facts.days_left, facts.state) == (False, 4, "valid")
    assert facts_in(folder.path / "ca.crt")[0].authority
    (expired,) = facts_in(folder.issue("peer", "old", ("a",), -1) / "tls.crt")
    assert expired.state == "expired" and expired.days_left < 0
    with pytest.raises(UsageError):
        facts_in(place / "tls.key")
