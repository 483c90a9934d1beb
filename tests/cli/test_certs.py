"""`mergenode certs`: what it makes, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest


@pytest.fixture
def folder(run, tmp_path: Path) -> Path:
    made = tmp_path / "certs"
    result = run("certs", "init", made)
    assert result.exit_code == 0 and "for trials only" in result.stdout
    return made


@pytest.mark.parametrize(("role", "given"), [("node", ("--host", "a.example.org")), ("pusher", ()), ("admin", ())])
def test_certificates_say_who_and_what_they_are(run, folder: Path, role: str, given: tuple[str, ...]) -> None:
    made = run("certs", role, folder, "somebody", *given, "--days", 3)
    assert made.exit_code == 0, made.stderr
    shown = run("certs", "show", folder / "somebody/tls.crt", "--json")
    assert shown.exit_code == 0
    (facts,) = json.loads(shown.stdout)["certificates"]
    right = "peer" if role == "node" else role
    assert facts["names"] == [f"spiffe://mergenode/{right}/somebody", *given[1:]] and facts["roles"] == [right]
    assert (facts["days_left"], facts["state"], facts["authority"]) == (2, "valid", False)
    table = run("certs", "show", folder / "somebody/tls.crt").stdout
    assert right in table and "CN=somebody" in table


def test_a_node_without_hosts_is_for_this_machine(run, folder: Path) -> None:
    assert run("certs", "node", folder, "a").exit_code == 0
    (facts,) = json.loads(run("certs", "show", folder / "a/tls.crt", "--json").stdout)["certificates"]
    assert facts["names"][1:] == ["localhost", "127.0.0.1", "::1"]


def test_a_token_is_printed_alone(run, folder: Path) -> None:
    made = run(
        "certs", "token", folder, "team-x", "--lineage", "main", "--lineage", "b", "--quota", "10GiB", "--days", 2
    )
    assert made.exit_code == 0 and made.stderr == "" and made.stdout.count("\n") == 1
    said = jwt.decode(made.stdout.strip(), options={"verify_signature": False})
    assert said["exp"] - said["iat"] == 2 * 86400
    assert (said["sub"], said["scope"], said["mergenode_quota"]) == ("team-x", ["push:main", "push:b"], 10 << 30)


def test_nothing_is_overwritten_without_force(run, folder: Path) -> None:
    run("certs", "node", folder, "a")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for arguments in (("init", folder), ("node", folder, "a"), ("admin", folder, "a")):
        refused = run("certs", *arguments)
        assert refused.exit_code == 2 and "exists already" in refused.stderr and "--force" in refused.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert run("certs", "init", folder, "--force").exit_code == 0
    assert run("certs", "node", folder, "a", "--force").exit_code == 0
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("node", "DIR", "a/b"), "cannot be the name"),
        (("node", "DIR", "a", "--host", "b:1"), "neither a DNS name nor an IP address"),
        (("node", "DIR", "a", "--days", "0"), "--days"),
        (("node", "ELSE", "a"), "no ca.crt there"),
        (("token", "DIR", "a"), "--lineage"),
        (("token", "DIR", "a", "--lineage", "x", "--quota", "much"), "--quota much"),
        (("show", "ELSE"), "No such file"),
        (("show", "DIR/ca.key"), "not certificates in PEM"),
    ],
)
def test_what_is_wrong_is_said(run, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    places = [text.replace("DIR", str(folder)).replace("ELSE", str(folder / "else")) for text in arguments]
    result = run("certs", *places)
    assert result.exit_code in (1, 2) and said in result.stderr and result.stdout == ""


def test_an_expired_certificate_is_shown_and_exits_one(run, folder: Path) -> None:
    from mergenode.adapters.peers.access.trial_folder import TrialFolder

    place = TrialFolder(folder).issue("peer", "old", ("a",), -1)
    shown = run("certs", "show", place / "tls.crt")
    assert shown.exit_code == 1 and "expired" in shown.stdout
