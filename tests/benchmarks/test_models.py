"""Generated checkpoints: what they hold, that they are whole, that the seed alone decides their bytes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks.models import PRESETS, main, write_adapter, write_base, write_fine_tune, write_suite
from benchmarks.streamed_safetensors import Tensor, split_into_shards, write_file

TINY = PRESETS["tiny"]


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return {k: v.double() for file in directory.glob("*.safetensors") for k, v in load_file(file).items()}


def test_suite_with_the_same_seed_has_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_suite(tmp_path / name, TINY, fine_tunes=2, adapters=1, seed=seed, shard_bytes=100_000)
    same, other = digests(tmp_path / "a"), digests(tmp_path / "c")
    assert same == digests(tmp_path / "b")
    weight_files = [name for name in same if name.endswith(".safetensors")]
    assert len(weight_files) >= 7
    assert all(same[name] != other[name] for name in weight_files)


def test_index_names_every_tensor_where_it_is(tmp_path: Path) -> None:
    write_base(tmp_path, TINY, seed=0, shard_bytes=100_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    found: dict[str, str] = {}
    for file in tmp_path.glob("model-*-of-*.safetensors"):
        with safe_open(file, "pt") as shard:
            assert shard.metadata() == {"format": "pt"}
            found |= dict.fromkeys(shard.keys(), file.name)
    assert index["weight_map"] == found
    assert set(found) == {tensor.name for tensor in TINY.tensors()}
    assert index["metadata"]["total_size"] == 2 * TINY.parameters()


def test_rewriting_with_fewer_shards_leaves_no_old_file(tmp_path: Path) -> None:
    write_base(tmp_path, TINY, seed=0, shard_bytes=100_000)
    before = weights(tmp_path)
    write_base(tmp_path, TINY, seed=0, shard_bytes=10_000_000)
    assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]
    after = weights(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_fine_tune_is_a_short_mostly_low_rank_update_of_the_base(tmp_path: Path) -> None:
    shape = replace(TINY, hidden=256)
    write_base(tmp_path / "base", shape, seed=0)
    write_fine_tune(tmp_path / "tuned", shape, seed=0, number=1, ratio=0.05)
    base, tuned = weights(tmp_path / "base"), weights(tmp_path / "tuned")
    for name, value in base.items():
        delta = tuned[name] - value
        assert delta.count_nonzero() > 0.9 * delta.numel() or value.ndim == 1
        assert 0.03 < float(delta.norm() / value.norm()) < 0.07, name
    name = "model.layers.1.self_attn.q_proj.weight"
    energy = torch.linalg.svdvals(tuned[name] - base[name]).square()
    assert 0.85 < float(energy[:8].sum() / energy.sum()) < 0.99


def test_fine_tunes_differ_from_each_other(tmp_path: Path) -> None:
    write_suite(tmp_path, TINY, fine_tunes=2)
    base, one, two = (weights(tmp_path / name) for name in ("base", "tuned-1", "tuned-2"))
    first, second = (torch.cat([(w[n] - base[n]).flatten() for n in base]) for w in (one, two))
    assert abs(float(torch.dot(first, second) / first.norm() / second.norm())) < 0.1


def test_adapter_factors_fit_the_base_and_have_the_length_asked(tmp_path: Path) -> None:
    write_base(tmp_path / "base", TINY, seed=0)
    write_adapter(tmp_path / "adapter", TINY, seed=0, number=1, ratio=0.05)
    base = weights(tmp_path / "base")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    factors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    targets = [name for name in base if ".layers." in name and base[name].ndim == 2]
    assert len(factors) == 2 * len(targets)
    for name in targets:
        module = "base_model.model." + name.removesuffix(".weight")
        delta = factors[f"{module}.lora_B.weight"] @ factors[f"{module}.lora_A.weight"]
        length = float((config["lora_alpha"] / config["r"] * delta).norm() / base[name].norm())
        assert 0.03 < length < 0.08
        assert name.split(".")[-2] in config["target_modules"]


def test_suite_that_is_there_is_left_alone_and_one_that_differs_is_made_again(tmp_path: Path) -> None:
    write_suite(tmp_path, TINY, fine_tunes=1)
    weight_file = tmp_path / "base" / "model.safetensors"
    first = weight_file.stat().st_ino, weight_file.stat().st_mtime_ns
    write_suite(tmp_path, TINY, fine_tunes=1)
    assert (weight_file.stat().st_ino, weight_file.stat().st_mtime_ns) == first
    before = digests(tmp_path / "base")
    write_suite(tmp_path, TINY, fine_tunes=1, seed=1)
    assert digests(tmp_path / "base") != before


def test_tied_head_is_not_stored(tmp_path: Path) -> None:
    shape = replace(TINY, tied=True, kv_heads=2)
    write_base(tmp_path, shape, seed=0)
    stored = weights(tmp_path)
    assert "lm_head.weight" not in stored
    assert stored["model.layers.0.self_attn.k_proj.weight"].shape == (32, 64)
    assert sum(value.numel() for value in stored.values()) == shape.parameters()


def test_presets_have_the_sizes_they_promise() -> None:
    sizes = {name: round(shape.parameters() / 1e6, 1) for name, shape in PRESETS.items()}
    assert sizes == {"tiny": 0.1, "120m": 119.6, "0.5b": 494.0, "0.5b-untied": 524.9}


def test_command_line_overrides_the_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--preset", "tiny", "--layers", "4", "--fine-tunes", "1", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "base" / "config.json").read_text())["num_hidden_layers"] == 4
    assert "model.layers.3.mlp.up_proj.weight" in weights(tmp_path / "tuned-1")
    assert str(tmp_path) in capsys.readouterr().out


def test_blocks_shorter_than_the_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"short.*6 bytes, 8 declared"):
        write_file(tmp_path / "f.safetensors", [Tensor("short", (4,))], lambda _: [b"123", b"456"])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(1, 60))
def test_shards_keep_the_order_and_the_limit(sizes: list[int], limit: int) -> None:
    tensors = [Tensor(str(number), (size,)) for number, size in enumerate(sizes)]
    shards = split_into_shards(tensors, limit)
    assert [tensor for shard in shards for tensor in shard] == tensors
    assert all(len(shard) == 1 or sum(t.size_bytes for t in shard) <= limit for shard in shards)
