"""One trial and one port for all tests of a module that change neither."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.peer_ports import OpenPort, Trial, open_port, register_everything


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def port(trial: Trial) -> Iterator[OpenPort]:
    """Mutual TLS; every call of the protocol answers."""
    with open_port(trial, [register_everything], reflect=True) as opened:
        yield opened
