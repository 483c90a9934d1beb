"""From settings to a port that others reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mergenode.adapters.peers.port.channels import open_channel
from mergenode.bootstrap.peer_port import peer_port, tls_of
from mergenode.errors import FatalError
from mergenode.settings.peers import PeersSettings
from tests.support.peer_ports import Trial, code_of, register_everything

HELLO, BEGIN = "/mergenode.v1.Peer/Hello", "/mergenode.v1.Intake/Begin"
STATE = "/mergenode.v1.Admin/GetState"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("trial"))


def settings(trial: Trial | None, **given: Any) -> PeersSettings:
    document: dict[str, Any] = {"listen": "127.0.0.1:0", **given}
    if trial is not None:
        files = trial.files("peer", "node", ("127.0.0.1",))
        document["tls"] = {
            "certificate": str(files.certificate),
            "key": str(files.key),
            "authority": str(files.authority),
        }
    return PeersSettings.model_validate(document)


@contextmanager
def started(chosen: PeersSettings, told: list[str]) -> Iterator[list[str]]:
    port = peer_port(
        chosen, tls_of(chosen, told.append), [register_everything], told.append, lambda *_: None, lambda *_: None
    )
    bound = port.start()
    try:
        yield [f"{host}:{number}" for host, number in bound]
    finally:
        assert port.stop(0.0)


def test_loopback_needs_nothing_and_allows_everything() -> None:
    with started(settings(None), told := []) as (address,), open_channel(address, None) as channel:
        assert code_of(channel, HELLO) is code_of(channel, BEGIN) is grpc.StatusCode.OK
    assert told == []


def test_certificates_and_the_roles_of_the_settings_count(trial: Trial) -> None:
    roles = {"peer": ["spiffe://mergenode/pusher/*"], "pusher": []}
    with started(settings(trial, roles=roles), told := []) as (address,):
        with open_channel(address, trial.caller("pusher")) as channel:
            assert code_of(channel, HELLO) is code_of(channel, BEGIN) is grpc.StatusCode.OK  # peers may push, too
            assert code_of(channel, STATE) is grpc.StatusCode.PERMISSION_DENIED
        with open_channel(address, trial.caller("peer")) as channel:
            assert code_of(channel, HELLO) is grpc.StatusCode.PERMISSION_DENIED
    assert told == []


def test_a_port_where_a_token_is_enough(trial: Trial) -> None:
    _ = trial.folder
    tokens = {"keys": str(trial.path / "tokens.json"), "listen": "127.0.0.1:0"}
    with (
        started(settings(trial, tokens=tokens), []) as (_, address),
        open_channel(address, trial.without_certificate()) as channel,
    ):
        assert code_of(channel, BEGIN, token=trial.token()) is grpc.StatusCode.OK
        assert code_of(channel, BEGIN) is grpc.StatusCode.UNAUTHENTICATED
        assert code_of(channel, HELLO, token=trial.token()) is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("given", "complains"),
    [
        ({}, False),
        ({"listen": "0.0.0.0:0"}, False),
        ({"listen": "localhost:0"}, True),
        ({"advertise": "node-b:50051"}, True),
        ({"advertise": "127.0.0.1:1"}, False),
    ],
)
def test_a_certificate_for_another_address_is_told(trial: Trial, given: dict[str, str], complains: bool) -> None:
    told: list[str] = []
    chosen = settings(trial, **given)
    peer_port(chosen, tls_of(chosen, told.append), [], told.append, lambda *_: None, lambda *_: None)
    assert bool(told) is complains and all("will refuse it" in line for line in told)


def test_what_cannot_be_used_is_fatal(trial: Trial, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("no keys")
    with pytest.raises(FatalError, match="no public key"):
        chosen = settings(trial, tokens={"keys": str(keys)})
        peer_port(chosen, tls_of(chosen, print), [], print, lambda *_: None, lambda *_: None)


def test_a_port_for_tokens_needs_what_makes_it_safe() -> None:
    with pytest.raises(ValueError, match=r"peers\.tokens\.listen needs peers\.listen"):
        settings(None, tokens={"listen": "127.0.0.1:0"})
