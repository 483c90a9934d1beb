"""A node that does not come up is told with the end of its log, at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.demo.node import SETTINGS, NodeProcess
from mergenode.errors import FatalError
from mergenode.settings import load_settings


def test_settings_of_the_demo_are_valid(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(SETTINGS)
    settings = load_settings(tmp_path / "node.yaml")
    assert settings.node.state == tmp_path / "state"
    assert settings.publish.keep >= 6


def test_failure_to_start_shows_the_log(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(SETTINGS + "nonsense: 1\n")
    node = NodeProcess(tmp_path)
    try:
        with pytest.raises(FatalError, match="ended with exit code 2") as caught:
            node.start()
    finally:
        node.close()
    assert "nonsense" in caught.value.message
    assert str(tmp_path / "node.log") in caught.value.hint
