"""A base model on disk and its description, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from tests.support.checkpoints import Tensors, base_tensors, write_single


@pytest.fixture(scope="session")
def base_values() -> Tensors:
    return base_tensors()


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory, base_values: Tensors) -> Path:
    return write_single(tmp_path_factory.mktemp("model") / "base", base_values)


@pytest.fixture(scope="session")
def base(base_dir: Path) -> BaseModel:
    return describe_base(base_dir)
