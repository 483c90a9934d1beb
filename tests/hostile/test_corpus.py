"""Every bad checkpoint ends in its documented outcome, and in nothing else."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.errors import RejectedError, RejectReason, TransientError
from tests.support.checkpoints import base_tensors, write_single
from tests.support.corpus import CORPUS, BadCheckpoint

OPEN = [case for case in CORPUS if case.stage == "open"]
LATER = [case for case in CORPUS if case.stage != "open"]


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_single(tmp_path_factory.mktemp("base") / "base", base_tensors())


@pytest.fixture(scope="module")
def base(base_dir: Path) -> BaseModel:
    return describe_base(base_dir)


def _build(case: BadCheckpoint, tmp_path: Path, base_dir: Path) -> Path:
    registry = tmp_path / "registry"
    registry.mkdir()
    return case.build(registry, base_dir)


@pytest.mark.parametrize("case", OPEN, ids=lambda case: case.name)
def test_refused_when_opened(case: BadCheckpoint, tmp_path: Path, base_dir: Path, base: BaseModel) -> None:
    path = _build(case, tmp_path, base_dir)
    tracemalloc.start()
    try:
        with pytest.raises((RejectedError, TransientError)) as caught, open_contribution(path, base, root=path.parent):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason is case.reason, caught.value.message
    for name in case.names:
        assert name in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 1000
    assert peak < 16 << 20, "no file of the corpus is larger than a megabyte"


@pytest.mark.parametrize("case", LATER, ids=lambda case: case.name)
def test_opens_when_only_the_values_are_bad(
    case: BadCheckpoint, tmp_path: Path, base_dir: Path, base: BaseModel
) -> None:
    path = _build(case, tmp_path, base_dir)
    with open_contribution(path, base, root=path.parent) as contribution:
        assert contribution.entries
    assert content_digest(path).startswith("blake3:")


def test_descriptors_are_given_back(tmp_path: Path, base_dir: Path, base: BaseModel) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    registry = tmp_path / "registry"
    registry.mkdir()
    for case in OPEN:
        path = case.build(registry, base_dir)
        with pytest.raises((RejectedError, TransientError)):
            open_contribution(path, base, root=registry)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_corpus_is_broad() -> None:
    assert len(CORPUS) >= 60
    assert max(Counter(case.name for case in CORPUS).values()) == 1
    never_a_file = {RejectReason.TOO_MANY_TENSORS}
    # Opened for a method that needs them: tests/adapters/engines/local/test_side_cars.py
    beside_the_weights = {RejectReason.NEEDS_SIDE_CAR, RejectReason.SIDE_CAR_INVALID}
    about_the_past = {RejectReason.RETRACTED, RejectReason.GONE}
    about_the_merge = {RejectReason.LOWERS_A_SCORE, RejectReason.DROPPED, RejectReason.EVICTED}
    elsewhere = never_a_file | beside_the_weights | about_the_past | about_the_merge
    assert {case.reason for case in CORPUS} >= set(RejectReason) - elsewhere
