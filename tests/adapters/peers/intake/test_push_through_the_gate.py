"""``mergenode push`` with certificates and tokens, through the gate of the port that nodes have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mergenode.adapters.peers.access import callers
from mergenode.adapters.peers.intake.intake_service import IntakeService
from mergenode.adapters.peers.intake.intake_work import IntakeRules
from mergenode.adapters.peers.pushing.pushing import PushTimes
from mergenode.cli.root import cli
from tests.support import peer_ports as ports
from tests.support.intake import open_uploads


@pytest.fixture
def port(trial: Any, state: Path, base: Path) -> Iterator[Any]:
    service = IntakeService(open_uploads(state, base), IntakeRules(lineage="mergenode"), callers.caller_of)
    with closing(service), ports.open_port(trial, [service.register]) as opened:
        yield opened


@pytest.fixture
def push(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("mergenode.adapters.peers.pushing.pushing.PushTimes", lambda: PushTimes(reach=0.0))
    return lambda *args: CliRunner().invoke(cli, ["push", *map(str, args)], env={"COLUMNS": "200"})


def certificate(trial: Any, role: str, name: str) -> list[Path | str]:
    files = trial.files(role, name)
    return ["--tls-ca", files.authority, "--tls-cert", files.certificate, "--tls-key", files.key]


def test_a_certificate_with_the_role_pushes(trial: Any, port: Any, push: Any, tuned: Path) -> None:
    result = push(tuned, "--to", port.address, *certificate(trial, "pusher", "team-a"))
    assert (result.exit_code, "accepted" in result.stdout) == (0, True), result.output


def test_a_certificate_without_the_role_does_not(trial: Any, port: Any, push: Any, tuned: Path) -> None:
    result = push(tuned, "--to", port.address, *certificate(trial, "admin", "alice"))
    assert result.exit_code == 1 and "has not the role pusher or peer" in result.stderr


def test_a_node_pushes_what_it_forwards(trial: Any, port: Any, push: Any, tuned: Path) -> None:
    result = push(tuned, "--to", port.address, *certificate(trial, "peer", "other-node"))
    assert (result.exit_code, "accepted" in result.stdout) == (0, True), result.output


@pytest.mark.parametrize(
    ("scopes", "quota", "said"),
    [
        (("mergenode",), None, ""),
        (("another",), None, "may not push to the lineage"),
        (("mergenode",), 10, "above its quota of 10"),
    ],
)
def test_tokens(
    trial: Any,
    port: Any,
    push: Any,
    adapter: Path,
    tmp_path: Path,
    scopes: tuple[str, ...],
    quota: int | None,
    said: str,
) -> None:  # fmt: skip
    token = tmp_path / "token"
    token.write_text(trial.token(*scopes, quota=quota))
    authority = trial.files("pusher", "team-a").authority
    result = push(adapter, "--to", port.token_address, "--tls-ca", authority, "--token-file", token)
    assert result.exit_code == (1 if said else 0) and said in result.stderr, result.output


def test_who_is_nobody_is_told_what_to_bring(trial: Any, port: Any, push: Any, tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c")
    authority = ["--tls-ca", trial.files("pusher", "team-a").authority]
    result = push(tuned, "--to", port.token_address, *authority, "--token-file", tmp_path / "token")
    assert result.exit_code == 1 and "no credentials that this node accepts" in result.stderr
    for options in (authority, []):
        result = push(tuned, "--to", port.address, *options)
        assert result.exit_code == 1 and "hangs up" in result.stderr and "--tls-cert" in result.stderr, result.output
