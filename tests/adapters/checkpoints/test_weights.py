"""Open weight files: the right bytes, and a clear word when the files change underneath."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from tests.support.checkpoints import (
    Tensors,
    base_tensors,
    finetuned,
    lora_tensors,
    write_adapter,
    write_file,
    write_sharded,
    write_single,
)

MODEL = "model.safetensors"


def _bytes(weights: WeightFiles, name: str, piece: int = 1 << 20) -> bytes:
    nbytes = weights.specs[name].nbytes
    buffer = bytearray(nbytes)
    for offset in range(0, nbytes, piece):
        weights.read_into(name, offset, memoryview(buffer)[offset : offset + piece])
    return bytes(buffer)


def _expected(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


BUILDERS: dict[str, Callable[[Path, Tensors], Path]] = {
    "single": write_single,
    "sharded": lambda place, tensors: write_sharded(place, tensors, 3),
    "other_name": lambda place, tensors: write_file(place / "diffusion_pytorch_model.safetensors", tensors).parent,
    "bare_file": lambda place, tensors: write_file(place / "some.safetensors", tensors),
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_every_byte_comes_back(tmp_path: Path, builder: str, piece: int) -> None:
    tensors = base_tensors()
    with open_weights(BUILDERS[builder](tmp_path / "x", tensors)) as weights:
        assert set(weights.specs) == set(tensors)
        assert not weights.adapter
        for name, tensor in tensors.items():
            assert _bytes(weights, name, piece) == _expected(tensor)
            assert weights.specs[name].shape == tuple(tensor.shape)
        weights.assert_unchanged()


def test_specs_come_in_file_and_offset_order(tmp_path: Path) -> None:
    path = write_sharded(tmp_path / "x", base_tensors(), 3)
    with open_weights(path) as weights:
        assert weights.files == tuple(sorted(file.name for file in path.glob("*.safetensors")))
        homes = [weights.file_of(name) for name in weights.specs]
        assert homes == sorted(homes)
        assert weights.total_bytes == sum((path / file).stat().st_size for file in weights.files)
        assert weights.metadata(weights.files[0]) == {"format": "pt"}


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    tensors = base_tensors()
    with open_weights(write_sharded(tmp_path / "x", tensors)) as weights, ThreadPoolExecutor(8) as pool:
        names = [name for name in tensors for _ in range(8)]
        for name, raw in zip(names, pool.map(lambda name: _bytes(weights, name, 64), names), strict=True):
            assert raw == _expected(tensors[name])


def test_a_pass_is_expected_of_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_single(tmp_path / "model", {"t0": torch.zeros(900)})
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, offset, size, advice: asked.append((offset, size, advice)))
    with open_weights(path) as files:
        files.expect_passes()
        assert asked == [(0, 0, os.POSIX_FADV_SEQUENTIAL)]

        def refuse(*arguments: object) -> None:
            raise OSError("no read-ahead here")

        monkeypatch.setattr(os, "posix_fadvise", refuse)
        files.expect_passes()


def test_ranges_outside_of_a_tensor_are_an_error_of_the_caller(tmp_path: Path) -> None:
    with open_weights(write_single(tmp_path / "x", {"a": torch.zeros(4)})) as weights:
        for offset, size in ((0, 17), (16, 1), (-1, 1)):
            with pytest.raises(ValueError, match="'a'"):
                weights.read_into("a", offset, memoryview(bytearray(size)))
        with pytest.raises(KeyError):
            weights.read_into("b", 0, memoryview(bytearray(1)))
    with pytest.raises(ValueError, match="closed"):
        weights.read_into("a", 0, memoryview(bytearray(1)))
    weights.close()


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def _write_inside(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x55")
    os.utime(file, ns=(1, 1))


def _replace(file: Path) -> None:
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    os.utime(copy, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    copy.replace(file)


@pytest.mark.parametrize("change", [_truncate, _write_inside, _replace, Path.unlink])
def test_a_change_is_noticed(tmp_path: Path, change: Callable[[Path], object]) -> None:
    path = write_sharded(tmp_path / "x", base_tensors())
    with open_weights(path) as weights:
        weights.assert_unchanged()
        change(path / weights.files[1])
        with pytest.raises(TransientError, match="00002-of-00002") as caught:
            weights.assert_unchanged()
        assert caught.value.reason is TransientReason.CHANGED_WHILE_READING


def test_a_link_that_now_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    write_file(tmp_path / "x" / "blobs" / "one", base_tensors())
    write_file(tmp_path / "x" / "blobs" / "two", finetuned(base_tensors()))
    link = tmp_path / "x" / MODEL
    link.symlink_to("blobs/one")
    with open_weights(tmp_path / "x") as weights:
        weights.assert_unchanged()
        link.unlink()
        link.symlink_to("blobs/two")
        with pytest.raises(TransientError):
            weights.assert_unchanged()


def test_a_file_that_shrinks_never_gives_wrong_bytes(tmp_path: Path) -> None:
    path = write_single(tmp_path / "x", {"a": torch.ones(1000)})
    with open_weights(path) as weights:
        os.truncate(path / MODEL, 200)
        with pytest.raises(TransientError, match="tensor 'a'") as caught:
            _bytes(weights, "a")
        assert caught.value.reason is TransientReason.CHANGED_WHILE_READING


def test_a_replaced_file_is_still_read_whole(tmp_path: Path) -> None:
    tensors = base_tensors()
    path = write_single(tmp_path / "x", tensors)
    with open_weights(path) as weights:
        write_file(tmp_path / "other.safetensors", finetuned(tensors)).replace(path / MODEL)
        assert _bytes(weights, "model.norm.weight") == _expected(tensors["model.norm.weight"])


def test_links_may_stay_inside_the_permitted_root(tmp_path: Path) -> None:
    write_file(tmp_path / "registry" / "blobs" / "1.safetensors", base_tensors())
    entry = tmp_path / "registry" / "entry"
    entry.mkdir()
    (entry / MODEL).symlink_to("../blobs/1.safetensors")
    with open_weights(entry, root=tmp_path / "registry") as weights:
        assert "model.scale" in weights.specs
    with pytest.raises(RejectedError) as caught:
        open_weights(entry)
    assert caught.value.reason is RejectReason.PATH_UNSAFE
    with open_weights(tmp_path / "registry" / "blobs" / "1.safetensors") as weights:
        assert "model.scale" in weights.specs


def test_an_entry_that_is_a_link_out_of_the_registry(tmp_path: Path) -> None:
    outside = write_single(tmp_path / "outside", base_tensors())
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "entry").symlink_to(outside, target_is_directory=True)
    with pytest.raises(RejectedError) as caught:
        open_weights(registry / "entry", root=registry)
    assert caught.value.reason is RejectReason.PATH_UNSAFE
    with open_weights(registry / "entry", root=trusted_root(registry / "entry")):
        pass  # the operator himself named it


def test_an_index_with_all_its_shards_wins_over_what_lies_beside(tmp_path: Path) -> None:
    path = write_sharded(tmp_path / "x", base_tensors())
    write_file(path / MODEL, {"stale": torch.zeros(1)})
    with open_weights(path) as weights:
        assert "stale" not in weights.specs
        assert weights.ignored == (MODEL,)


def test_an_adapter_directory(tmp_path: Path) -> None:
    with open_weights(write_adapter(tmp_path / "x", lora_tensors())) as weights:
        assert weights.adapter
        assert weights.files == ("adapter_model.safetensors",)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    for name in ("nothing", "nothing.safetensors"):
        with pytest.raises(TransientError) as caught:
            open_weights(tmp_path / name)
        assert caught.value.reason is TransientReason.VANISHED


def test_caps_count_over_all_files(tmp_path: Path) -> None:
    path = write_sharded(tmp_path / "x", base_tensors())
    with open_weights(path) as weights:
        total, tensors = weights.total_bytes, len(weights.specs)
    open_weights(path, limits=Limits(checkpoint_bytes=total, tensors=tensors)).close()
    for limits, reason in (
        (Limits(checkpoint_bytes=total - 1), RejectReason.TOO_LARGE),
        (Limits(tensors=tensors - 1), RejectReason.TOO_MANY_TENSORS),
        (Limits(directory_entries=3), RejectReason.TOO_LARGE),
        (Limits(index_bytes=10), RejectReason.INDEX_INVALID),
    ):
        with pytest.raises(RejectedError) as caught:
            open_weights(path, limits=limits)
        assert caught.value.reason is reason
