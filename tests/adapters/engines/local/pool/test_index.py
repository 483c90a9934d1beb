"""A candidate is read once; what was found is kept by content, and made again when it was lost or damaged."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.engines.local.pool.reading import FirstReading
from mergenode.adapters.engines.local.pool.sketching import SketchScheme
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ports.pool import WHOLE
from mergenode.types import Kind
from tests.support.heard import Heard
from tests.support.killed_calls import Killed, KilledCalls
from tests.support.models import factors, fine_tune, random_base, write_lora
from tests.support.pools import Pool, literal_norm, small_parts


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    small_parts(monkeypatch)
    return Pool(tmp_path)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the candidates that were read whole."""
    names: list[str] = []
    real = FirstReading.read

    def read(self: FirstReading) -> Any:
        names.append(self.vector.label)
        return real(self)

    monkeypatch.setattr(FirstReading, "read", read)
    return names


def lora(pool: Pool, name: str = "lora") -> Any:
    modules = ["layers.0.attn.q_proj", "layers.0.mlp.up_proj"]
    shapes = {name: tuple(values.shape) for name, values in pool.base.items()}
    return pool.at(write_lora(pool.root / name, factors(modules, shapes, 3)))


def index_files(pool: Pool) -> dict[str, bytes]:
    folder = pool.root / "state" / "pool"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


def test_content_and_norms(pool: Pool) -> None:
    candidate = pool.tuned(1, shards=2)
    found = pool.engine.index(candidate)
    assert found.content == content_digest(Path(candidate.location)) and found.kind is Kind.FULL
    assert found.norm == pytest.approx(literal_norm(pool.base, fine_tune(pool.base, 1)), rel=1e-12)
    assert sum(norm**2 for norm in found.group_norms.values()) == pytest.approx(found.norm**2, rel=1e-12)
    assert set(found.group_norms) == {"layers.0", "layers.1", "model.embed_tokens", "vision"}


def test_an_adapter_has_its_content_and_the_norm_of_its_product(pool: Pool) -> None:
    candidate = lora(pool)
    found = pool.engine.index(candidate)
    pairs = load_file(Path(candidate.location) / "adapter_model.safetensors")
    squares = 0.0
    for name in ("layers.0.attn.q_proj", "layers.0.mlp.up_proj"):
        left, right = (pairs[f"base_model.model.{name}.lora_{side}.weight"].double() for side in "BA")
        squares += float((2 * left @ right).square().sum())
    assert found.content == content_digest(Path(candidate.location)) and found.kind is Kind.ADAPTER
    assert found.norm == pytest.approx(squares**0.5, rel=1e-12) and list(found.group_norms) == ["layers.0"]


def test_how_far_a_reading_is_is_told(pool: Pool) -> None:
    heard, candidates = Heard(), [pool.tuned(1), lora(pool)]
    engine = replace(pool.engine, observer=heard)
    engine.index(candidates[0])
    words = heard.of("index")
    assert {word.subject for word in words} == {"tuned-1"} and words[-1].over
    assert 0 == words[0].bytes_done < words[1].bytes_done < words[-1].bytes_done == words[-1].bytes_total
    engine.scores(pool.gradient, candidates)
    assert {word.subject for word in heard.of("index")} == {"tuned-1", "lora"}
    last = heard.of("scoring")[-1]
    assert (last.tensors_done, last.tensors_total, last.step, last.over) == (2, 2, "contributions", True)


def test_what_was_read_is_not_read_again(pool: Pool, readings: list[str]) -> None:
    candidates = [pool.tuned(1), lora(pool)]
    first = [pool.engine.index(candidate) for candidate in candidates]
    files = index_files(pool)
    assert [pool.engine.index(candidate) for candidate in candidates] == first
    pool.engine.scores(pool.gradient, candidates)
    assert readings == ["tuned-1", "lora"] and index_files(pool) == files


def test_scores_of_a_candidate_that_was_never_indexed_index_it(pool: Pool, readings: list[str]) -> None:
    candidate = pool.tuned(1)
    pool.engine.scores(pool.gradient, [candidate])
    pool.engine.index(candidate)
    assert readings == ["tuned-1"]


def test_what_was_written_to_is_read_again(pool: Pool, readings: list[str]) -> None:
    candidate = pool.tuned(1)
    before = pool.engine.index(candidate)
    save_file(fine_tune(pool.base, 2), Path(candidate.location) / "model.safetensors")
    after = pool.engine.index(candidate)
    assert readings == ["tuned-1"] * 2 and after.content != before.content
    assert set(pool.engine.estimates(pool.gradient)) == {before.content, after.content}


def test_settings_of_an_adapter_are_part_of_what_it_is(pool: Pool) -> None:
    candidate = lora(pool)
    before = pool.engine.index(candidate)
    place = Path(candidate.location) / "adapter_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"lora_alpha": 16.0}))
    after = pool.engine.index(candidate)
    assert after.content != before.content and after.norm == pytest.approx(2 * before.norm)


def test_estimates_are_the_scores_within_their_errors(pool: Pool) -> None:
    candidates = [*(pool.tuned(seed, ratio=0.1 * (seed + 1)) for seed in range(8)), lora(pool)]
    scores = pool.engine.scores(pool.gradient, candidates).scores
    estimates = pool.engine.estimates(pool.gradient)
    groups = pool.engine.group_estimates(pool.gradient)
    assert estimates.keys() == scores.keys() == groups.keys()
    for content, exact in scores.items():
        assert estimates[content].error > 0
        assert abs(estimates[content].value - exact[WHOLE]) < 4 * estimates[content].error
        assert groups[content].keys() == exact.keys()
        for group, estimate in groups[content].items():
            assert abs(estimate.value - exact[group]) < 4 * estimate.error
        assert groups[content][WHOLE].value == pytest.approx(estimates[content].value, abs=1e-3)


def test_the_error_is_small_where_there_are_more_buckets_than_elements(pool: Pool) -> None:
    """What is left is the rounding to bytes and few collisions: the sketch is nearly the vector itself."""
    pool.scheme = SketchScheme(buckets=1 << 20)
    candidate = pool.tuned(1)
    [scores] = pool.engine.scores(pool.gradient, [candidate]).scores.values()
    [estimate] = pool.engine.estimates(pool.gradient).values()
    assert abs(estimate.value - scores[WHOLE]) < 4 * estimate.error < 0.1 * pool.engine.index(candidate).norm * 120


def test_another_base_or_scheme_is_another_index(pool: Pool, tmp_path: Path, readings: list[str]) -> None:
    candidate = pool.tuned(1)
    pool.engine.index(candidate)
    pool.scheme = SketchScheme(seed=9, buckets=1 << 12)
    assert pool.engine.estimates(pool.gradient) == {}
    pool.engine.index(candidate)
    other = Pool(tmp_path / "other", base=random_base(7), scheme=pool.scheme)
    shared = replace(other.engine, folder=pool.root / "state" / "pool")
    assert shared.estimates(other.gradient) == {}
    shared.index(candidate)
    assert readings == ["tuned-1"] * 3 and len(shared.estimates(other.gradient)) == 1


def damages() -> list[Any]:
    def cut(raw: bytes) -> bytes:
        return raw[: len(raw) // 2]

    def flipped(raw: bytes) -> bytes:
        middle = len(raw) // 2
        return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]

    def emptied(raw: bytes) -> bytes:
        return b""

    def grown(raw: bytes) -> bytes:
        return raw + b"more"

    def foreign(raw: bytes) -> bytes:
        return b"something else altogether, long enough to hold a digest and a header of its own"

    return [cut, flipped, emptied, grown, foreign]


@pytest.mark.parametrize("suffix", [".sketch", ".place"])
@pytest.mark.parametrize("damage", damages())
def test_a_damaged_file_is_made_again(pool: Pool, readings: list[str], suffix: str, damage: Any) -> None:
    candidate, other = pool.tuned(1), pool.tuned(2)
    wanted = [pool.engine.index(candidate), pool.engine.index(other)]
    files, estimates = index_files(pool), pool.engine.estimates(pool.gradient)
    for path in (pool.root / "state" / "pool").glob(f"*{suffix}"):
        path.write_bytes(damage(path.read_bytes()))
        break
    assert len(pool.engine.estimates(pool.gradient)) == (1 if suffix == ".sketch" else 2)
    assert [pool.engine.index(candidate), pool.engine.index(other)] == wanted
    assert len(readings) == 3 and index_files(pool) == files
    assert pool.engine.estimates(pool.gradient) == estimates


def test_a_file_under_another_name_is_not_believed(pool: Pool) -> None:
    first, second = (pool.engine.index(pool.tuned(seed)) for seed in (1, 2))
    folder = pool.root / "state" / "pool"
    one, two = (folder / f"{item.content.removeprefix('blake3:')}.sketch" for item in (first, second))
    two.write_bytes(one.read_bytes())
    (folder / "no-digest.sketch").write_bytes(one.read_bytes())
    assert set(pool.engine.estimates(pool.gradient)) == {first.content}


def test_a_huge_file_is_not_read(pool: Pool) -> None:
    found = pool.engine.index(pool.tuned(1))
    path = pool.root / "state" / "pool" / f"{found.content.removeprefix('blake3:')}.sketch"
    os.truncate(path, 1 << 40)  # sparse
    assert pool.engine.estimates(pool.gradient) == {}


def test_what_is_not_kept_is_forgotten(pool: Pool, readings: list[str]) -> None:
    first, second = pool.tuned(1), pool.tuned(2)
    kept, gone = pool.engine.index(first), pool.engine.index(second)
    (pool.root / "state" / "pool" / ".half.sketch.new").write_bytes(b"half")
    for _ in range(2):
        pool.engine.keep([kept.content])
        assert set(pool.engine.estimates(pool.gradient)) == {kept.content}
        assert len(index_files(pool)) == 2
    assert pool.engine.index(second) == gone and readings == ["tuned-1", "tuned-2", "tuned-2"]
    pool.engine.keep([])
    assert index_files(pool) == {}


def test_an_index_that_is_not_there_yet_is_empty(pool: Pool) -> None:
    pool.engine.keep([])
    assert pool.engine.estimates(pool.gradient) == {}


def test_values_that_are_no_numbers_are_refused(pool: Pool) -> None:
    tensors = fine_tune(pool.base, 1)
    tensors["layers.1.exact.weight"][3, 4] = float("inf")
    with pytest.raises(RejectedError) as caught:
        pool.engine.index(pool.add("inf", tensors))
    assert caught.value.reason is RejectReason.NOT_FINITE and "layers.1.exact.weight" in caught.value.message
    tensors["layers.1.exact.weight"][3, 4] = 1e154
    tensors["layers.1.exact.weight"][5:, :] = 1.2e153
    with pytest.raises(RejectedError) as caught:
        pool.engine.index(pool.add("huge", tensors))
    assert caught.value.reason is RejectReason.NORM_TOO_LARGE and index_files(pool) == {}


def test_what_changes_while_it_is_read_leaves_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = pool.tuned(1)
    real = FirstReading.read

    def read(self: FirstReading) -> Any:
        found = real(self)
        os.utime(Path(candidate.location) / "model.safetensors", ns=(1, 1))
        return found

    monkeypatch.setattr(FirstReading, "read", read)
    with pytest.raises(TransientError) as caught:
        pool.engine.index(candidate)
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING and index_files(pool) == {}


def test_killed_at_any_step_the_next_call_ends_where_an_undisturbed_one_ends(tmp_path: Path) -> None:
    undisturbed = Pool(tmp_path / "undisturbed")
    calls, tuned = KilledCalls(), undisturbed.tuned(1)
    with calls.installed():
        wanted = undisturbed.engine.index(tuned)
    steps = len(calls.calls)
    assert steps >= 6  # two files: written, synced, renamed
    pool = Pool(tmp_path / "killed")
    candidate = pool.tuned(1)
    for step in range(steps):
        with KilledCalls(step).installed(), pytest.raises(Killed):
            pool.engine.index(candidate)
        assert set(pool.engine.estimates(pool.gradient)) <= {wanted.content}
        found = pool.engine.index(candidate)
        assert replace(found, candidate=wanted.candidate) == wanted
        sketches = {name: data for name, data in index_files(pool).items() if name.endswith(".sketch")}
        assert sketches == {name: data for name, data in index_files(undisturbed).items() if name.endswith(".sketch")}
        shutil.rmtree(pool.root / "state")


def test_the_sketch_of_a_product_is_that_of_the_dense_update(pool: Pool) -> None:
    """An adapter and its merged form, in a wide type, have one sketch but for rounding."""
    candidate = lora(pool)
    pairs = load_file(Path(candidate.location) / "adapter_model.safetensors")
    tensors = {name: values.double() if values.is_floating_point() else values for name, values in pool.base.items()}
    for name in ("layers.0.attn.q_proj", "layers.0.mlp.up_proj"):
        left, right = (pairs[f"base_model.model.{name}.lora_{side}.weight"].double() for side in "BA")
        tensors[f"{name}.weight"] = tensors[f"{name}.weight"] + 2 * left @ right
    dense = pool.add("dense", {name: values.contiguous() for name, values in tensors.items()})
    first, second = pool.engine.index(candidate), pool.engine.index(dense)
    assert second.norm == pytest.approx(first.norm, rel=1e-12)
    found = pool.engine.estimates(pool.gradient)
    assert found[first.content].value == pytest.approx(found[second.content].value, rel=1e-3)
    assert torch.isfinite(torch.tensor(found[first.content].value))
