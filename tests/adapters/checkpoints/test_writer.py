"""The safetensors writer, read back by the reference library; half a file is never taken for a whole one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.errors import MergenodeError
from mergenode.types import DType, TensorSpec

TYPES = {DType.F64: torch.float64, DType.F32: torch.float32, DType.BF16: torch.bfloat16, DType.U8: torch.uint8}
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)


def raw(spec: TensorSpec, seed: int = 0) -> bytes:
    values = torch.randint(0, 60, (spec.numel,), generator=torch.Generator().manual_seed(seed))
    return values.to(TYPES[spec.dtype]).reshape(-1).view(torch.uint8).numpy().tobytes()


def writer_for(path: Path, specs: list[TensorSpec], metadata: dict[str, str]) -> SafetensorsWriter:
    return SafetensorsWriter(path, reserve=header_reserve(specs, metadata), metadata=metadata, durable=False)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.dictionaries(
        NAMES, st.tuples(st.sampled_from(list(TYPES)), st.lists(st.integers(0, 5), max_size=4)), max_size=6
    ),
    piece=st.integers(1, 64),
    metadata=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3),
)
def test_any_tensors_in_any_pieces_come_back(
    tmp_path: Path, shapes: dict[str, tuple[DType, list[int]]], piece: int, metadata: dict[str, str]
) -> None:
    specs = [TensorSpec(name, dtype, tuple(shape)) for name, (dtype, shape) in shapes.items()]
    specs.sort(key=lambda spec: -spec.dtype.size)
    path = tmp_path / "out.safetensors"
    writer = writer_for(path, specs, {"format": "pt", **metadata})
    for spec in specs:
        region = writer.allocate(spec)
        data = memoryview(raw(spec))
        for start in range(0, len(data), piece):
            writer.append(spec.name, data[start : start + piece])
        assert region.digest == "blake3:" + blake3(data).hexdigest()
    writer.finish()
    assert path.stat().st_size == writer.bytes_written
    loaded = load_file(path)
    assert loaded.keys() == {spec.name for spec in specs}
    for spec in specs:
        assert tuple(loaded[spec.name].shape) == spec.shape and loaded[spec.name].dtype is TYPES[spec.dtype]
        assert loaded[spec.name].reshape(-1).view(torch.uint8).numpy().tobytes() == raw(spec)
    with safe_open(path, "pt") as reader:
        assert reader.metadata() == {"format": "pt", **metadata}


def test_data_starts_aligned_and_wide_types_stay_so(tmp_path: Path) -> None:
    specs = [TensorSpec("a", DType.F64, (3,)), TensorSpec("b", DType.F32, (5,)), TensorSpec("c", DType.BF16, (7,))]
    path = tmp_path / "out.safetensors"
    writer = writer_for(path, specs, {"format": "pt"})
    for spec in specs:
        writer.allocate(spec)
        writer.append(spec.name, memoryview(raw(spec)))
    writer.finish()
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert length % 8 == 0
    for spec in specs:
        assert (8 + length + writer.regions[spec.name].begin) % spec.dtype.size == 0


def test_tensors_may_be_written_at_the_same_time(tmp_path: Path) -> None:
    specs = [TensorSpec("a", DType.U8, (4,)), TensorSpec("b", DType.U8, (4,))]
    writer = writer_for(tmp_path / "out.safetensors", specs, {})
    for spec in specs:
        writer.allocate(spec)
    for start in (0, 2):
        writer.append("b", memoryview(bytes([10 + start, 11 + start])))
        writer.append("a", memoryview(bytes([start, 1 + start])))
    writer.finish()
    loaded = load_file(tmp_path / "out.safetensors")
    assert loaded["a"].tolist() == [0, 1, 2, 3] and loaded["b"].tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("done", ["nothing", "allocated", "half", "all but the header"])
def test_an_unfinished_file_cannot_be_read(tmp_path: Path, done: str) -> None:
    spec = TensorSpec("a", DType.F32, (1000,))
    path = tmp_path / "out.safetensors"
    writer = writer_for(path, [spec], {"format": "pt"})
    if done != "nothing":
        writer.allocate(spec)
    if done in ("half", "all but the header"):
        data = memoryview(raw(spec))
        writer.append("a", data[: len(data) // (1 if done == "all but the header" else 2)])
    writer.close()
    with pytest.raises(MergenodeError):
        open_weights(path)
    with pytest.raises(Exception, match=r"(?i)header"):  # the library's own error type is private
        load_file(path)


def test_what_the_caller_must_not_do(tmp_path: Path) -> None:
    spec = TensorSpec("a", DType.U8, (4,))
    writer = writer_for(tmp_path / "out.safetensors", [spec], {})
    writer.allocate(spec)
    with pytest.raises(ValueError, match="allocated twice"):
        writer.allocate(spec)
    with pytest.raises(ValueError, match="more bytes than"):
        writer.append("a", memoryview(bytes(5)))
    writer.append("a", memoryview(bytes(3)))
    with pytest.raises(ValueError, match="3 of 4 bytes"):
        writer.finish()
    writer.append("a", memoryview(bytes(1)))
    writer.allocate(TensorSpec("x" * 500, DType.U8, (0,)))
    with pytest.raises(ValueError, match="were reserved"):
        writer.finish()
    writer.close()


def test_the_reserve_holds_the_longest_header(tmp_path: Path) -> None:
    """Names that JSON spells with six characters each, and dimensions of nineteen digits."""
    specs = [TensorSpec("\u00e9\u0001" * 40 + str(n), DType.BF16, (10**18, 0)) for n in range(50)]
    metadata = {"key\u2028" * 10: "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16") * 50}
    writer = writer_for(tmp_path / "out.safetensors", specs, metadata)
    for spec in specs:
        writer.allocate(spec)
    writer.finish()
    assert load_file(tmp_path / "out.safetensors").keys() == {spec.name for spec in specs}


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    spec = TensorSpec("a", DType.U8, (1,))
    for number in range(5):
        writer = writer_for(tmp_path / f"{number}.safetensors", [spec], {})
        writer.allocate(spec)
        writer.append("a", memoryview(b"x"))
        writer.finish()
        writer.close()
    assert len(os.listdir("/proc/self/fd")) == before
