"""A base, fine-tunes of it, and an intake for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkpoints import base_tensors, finetuned, lora_tensors, write_adapter, write_single
from tests.support.intake import FakeOutcomes, Intake, open_uploads


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_single(tmp_path / "base", base_tensors())


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return write_single(tmp_path / "tuned", finetuned(base_tensors()))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", lora_tensors())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def outcomes() -> FakeOutcomes:
    return FakeOutcomes()


@pytest.fixture
def intake(state: Path, base: Path, outcomes: FakeOutcomes) -> Iterator[Intake]:
    with Intake(open_uploads(state, base, outcomes=outcomes)) as running:
        yield running
