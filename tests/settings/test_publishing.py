"""What publishing cannot go together with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.bootstrap.policy import policy_of
from mergenode.errors import UsageError
from mergenode.settings import Settings, load_settings


def loaded(root: Path, text: str) -> Settings:
    file = root / "node.yaml"
    file.write_text("base: ./base\nregistries: []\n" + text)
    return load_settings(file, {})


@pytest.mark.parametrize("mixer", ["none", "contributions"])
def test_a_hold_is_what_the_loop_keeps(tmp_path: Path, mixer: str) -> None:
    text = f"mixer: {{name: {mixer}}}\npeers: {{intake: {{enabled: true}}}}\npublish: {{hold_seconds: 60}}"
    assert policy_of(loaded(tmp_path, text)).publish_hold_seconds == 60.0
    assert policy_of(loaded(tmp_path, "")).publish_hold_seconds == 0.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "mixer: {name: dimat}\npublish: {hold_seconds: 60}",
            "publish.hold_seconds does not go with mixer.name: dimat",
        ),
        ("mixer: {name: union}\npublish: {hold_seconds: 60}", "drift is measured at the node that folds"),
        ("publish: {hold_seconds: -1}", "publish.hold_seconds"),
        ("publish: {hold_seconds: .inf}", "publish.hold_seconds"),
        ("publish: {hold_seconds: soon}", "publish.hold_seconds"),
    ],
)
def test_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text)
    assert why in caught.value.message
