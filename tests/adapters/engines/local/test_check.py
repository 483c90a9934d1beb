"""Reading back: every kind of damage is told in a sentence, nothing ends in a traceback, and no damage is invented."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.check import check_file, check_generation, check_version
from mergenode.adapters.publishers.folder import FolderPublisher
from mergenode.errors import FatalError
from tests.support.local_node import LocalNode, load_model, merge
from tests.support.models import factors, fine_tune, random_base, write_lora, write_model


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 << 10)


@pytest.fixture
def node(tmp_path: Path) -> LocalNode:
    """A fold of a full model, then one of an adapter: written shards, and links."""
    base = random_base()
    made = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    made.fold(write_model(tmp_path / "tuned", fine_tune(base, 1)))
    pairs = factors(["layers.0.attn.q_proj"], {"layers.0.attn.q_proj.weight": (32, 32)}, 1)
    made.fold(write_lora(tmp_path / "lora", pairs))
    return made


def problems(node: LocalNode) -> list[str]:
    return list(check_generation(node.folder, node.head.statistics, lambda name, nbytes: None))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.unlink()  # other generations may hold the same file under a link
    path.write_bytes(data)


def test_an_untouched_generation_has_no_problems(node: LocalNode) -> None:
    read = []
    assert list(check_generation(node.folder, node.head.statistics, lambda name, nbytes: read.append(nbytes))) == []
    assert sum(read) == sum(tensor.nbytes for tensor in load_model(node.folder).values())


def test_an_empty_adapter_generation_has_no_problems(tmp_path: Path) -> None:
    node = LocalNode(tmp_path, write_model(tmp_path / "base", random_base()))
    pairs = factors(["layers.0.attn.q_proj"], {"layers.0.attn.q_proj.weight": (32, 32)}, 1)
    node.fold(write_lora(tmp_path / "lora", pairs))
    assert problems(node) == []


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bit of a tensor": (lambda folder: flip(folder / "shard-00001.safetensors", -1), "does not have the recorded"),
    "a bit of a header": (lambda folder: flip(folder / "shard-00001.safetensors", 12), "shard-00001"),
    "a shard is gone": (lambda folder: (folder / "shard-00001.safetensors").unlink(), "shard-00001"),
    "a shard is shorter": (lambda folder: _truncate(folder / "shard-00001.safetensors"), "shard-00001"),
    "a record is gone": (lambda folder: (folder / "shard-00000.json").unlink(), "shard-00000"),
    "a record is no JSON": (lambda folder: (folder / "shard-00000.json").write_text("{"), "shard-00000"),
    "a record is something else": (lambda folder: (folder / "shard-00000.json").write_text('{"a": 1}'), "shard-00000"),
    "a record without tensors": (
        lambda folder: (folder / "shard-00000.json").write_text('{"bytes": null, "contributions": [], "tensors": 3}'),
        "not those of a finished fold",
    ),
    "the manifest is gone": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
    "the manifest is a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json"),
    "the manifest is empty": (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told(node: LocalNode, damage: str) -> None:
    edit, words = DAMAGE[damage]
    edit(node.folder)
    found = problems(node)
    assert found and any(words in sentence for sentence in found), found


def test_statistics_of_another_fold_are_noticed(node: LocalNode) -> None:
    [found] = check_generation(node.folder, "blake3:" + "0" * 64, lambda name, nbytes: None)
    assert "do not add up" in found


def test_scalars_that_were_changed_are_noticed(node: LocalNode) -> None:
    path = node.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["totals"]["norm_sum"] += 1e-9
    path.write_text(json.dumps(manifest))
    assert any("do not add up" in sentence for sentence in problems(node))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_of_a_shard_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.mktemp("flip")
    base = {"layers.0.proj.weight": random_base()["layers.0.attn.q_proj.weight"]}
    node = LocalNode(place, write_model(place / "base", base))
    node.fold(write_model(place / "tuned", fine_tune(base, 1)))
    shard = node.folder / "shard-00000.safetensors"
    raw = shard.read_bytes()
    header = int.from_bytes(raw[:8], "little")
    used = len(raw[8 : 8 + header].rstrip())
    # Spaces after the header's JSON are padding: a bit there changes no number.
    at = data.draw(st.one_of(st.integers(0, 7 + used), st.integers(8 + header, len(raw) - 1)))
    flip(shard, at)
    assert problems(node)


def published(tmp_path: Path) -> tuple[Path, str]:
    base = random_base()
    place, model = write_model(tmp_path / "base", base, shards=2), write_model(tmp_path / "t", fine_tune(base, 1))
    merge(place, tmp_path / "v000001", [model])
    return tmp_path / "v000001", FolderPublisher(tmp_path, tmp_path / "base").digest(1)


def version_problems(folder: Path, digest: str) -> list[str]:
    return list(check_version(folder, digest, lambda name, nbytes: None))


def test_an_untouched_version_has_no_problems(tmp_path: Path) -> None:
    folder, digest = published(tmp_path)
    assert version_problems(folder, digest) == []


def test_a_changed_tensor_of_a_version_is_named_with_its_file(tmp_path: Path) -> None:
    folder, digest = published(tmp_path)
    path = next(folder.glob("model-00002*"))
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel())
    tensors[name] = tensors[name] * 1.001
    save_file(tensors, path)
    [found] = version_problems(folder, digest)
    assert name in found and path.name in found


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"tensors": []}', '{"tensors": {"a": 1}}', "{", ""])
def test_any_manifest_is_survived(tmp_path: Path, content: str) -> None:
    folder, digest = published(tmp_path)
    (folder / "mergenode.json").write_text(content)
    found = version_problems(folder, digest)
    assert found and "mergenode.json" in found[0]


def test_missing_and_surplus_tensors(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", {"a": random_base()["vision.gate"]})
    found = list(check_file(path, {"b": "blake3:0"}, lambda name, nbytes: None))
    assert [sentence.split("tensor ")[1] for sentence in found] == ["'a' is not in the record", "'b' is missing"]
    [gone] = check_file(tmp_path / "nothing", {}, lambda name, nbytes: None)
    assert "nothing" in gone


def test_damaged_statistics_stop_the_node_with_a_hint(node: LocalNode, tmp_path: Path) -> None:
    """A fold or an export on top of them would publish nonsense."""
    os.unlink(node.folder / "shard-00001.safetensors")
    with pytest.raises(FatalError) as caught:
        node.fold(write_model(tmp_path / "next", fine_tune(random_base(), 5)))
    assert "shard-00001" in caught.value.message and "backup" in caught.value.hint
    with pytest.raises(FatalError):
        node.export(tmp_path / "out")
