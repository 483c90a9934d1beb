"""Published versions: types, layout and files, as the tools of others read them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from safetensors import safe_open
from safetensors.torch import load_file

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.export import to_output
from mergenode.types import DType
from tests.support.local_node import LocalNode, load_model, merge
from tests.support.models import EMBEDDING, HEAD, fine_tune, random_base, write_model

TYPES = {DType.F32: torch.float32, DType.BF16: torch.bfloat16, DType.F16: torch.float16}


def published(root: Path, *, dtype: DType | None = None, shards: int = 1) -> tuple[Path, Path]:
    base = random_base()
    place = write_model(root / "base", base, shards=shards)
    models = [write_model(root / f"{n}", fine_tune(base, n)) for n in (1, 2)]
    merge(place, root / "out", models, dtype=dtype)
    return place, root / "out"


@pytest.mark.parametrize("dtype", [None, *TYPES])
def test_types_follow_the_setting(tmp_path: Path, dtype: DType | None) -> None:
    base, out = published(tmp_path, dtype=dtype)
    originals, tensors = load_model(base), load_file(out / "model.safetensors")
    assert tensors.keys() == originals.keys()
    for name, original in originals.items():
        wanted = TYPES[dtype] if dtype and original.is_floating_point() else original.dtype
        assert tensors[name].dtype is wanted, name
        assert tensors[name].shape == original.shape
        assert not torch.isnan(tensors[name].float()).any()
    config = json.loads((out / "config.json").read_text())
    names = {None: "bfloat16", DType.F32: "float32", DType.BF16: "bfloat16", DType.F16: "float16"}
    assert config["torch_dtype"] == names[dtype]
    assert config["model_type"] == "random"
    assert json.loads((out / "mergenode.json").read_text())["dtype"] == (dtype.value if dtype else None)


def test_narrow_types_are_the_wide_result_rounded_once(tmp_path: Path) -> None:
    _, wide = published(tmp_path / "wide", dtype=DType.F32)
    exact = load_model(wide)
    for dtype in (DType.BF16, DType.F16):
        narrow = load_model(published(tmp_path / dtype.value, dtype=dtype)[1])
        for name, tensor in narrow.items():
            # Weights in float64 are rounded from there: what was rounded to float32 first may differ by a tie.
            if tensor.is_floating_point() and "exact" not in name:
                assert torch.equal(tensor, exact[name].to(TYPES[dtype])), name


def test_float16_saturates(tmp_path: Path) -> None:
    base = {"a.weight": torch.zeros(2, 2), "b": torch.zeros(3)}
    tuned = {"a.weight": torch.tensor([[1e6, -1e6], [65504.0, 1.0]]), "b": torch.tensor([65519.0, 65521.0, -3e38])}
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base), "average", dtype=DType.F16)
    node.fold(write_model(tmp_path / "tuned", tuned))
    found = node.published(tmp_path / "out")
    assert found["a.weight"].tolist() == [[65504.0, -65504.0], [65504.0, 1.0]]
    assert found["b"].tolist() == [65504.0, 65504.0, -65504.0]
    assert math.isinf(float(torch.tensor(65521.0).half()))  # what a plain conversion would have published


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [(torch.float32, torch.bfloat16), (torch.float64, torch.float32), (torch.float64, torch.bfloat16)],
)
def test_no_conversion_makes_infinity_of_a_number(wide: torch.dtype, narrow: torch.dtype) -> None:
    largest = torch.finfo(wide).max
    found = to_output(torch.tensor([largest, -largest, 1.5], dtype=wide), narrow)
    assert found.dtype is narrow
    assert found.double().tolist() == [torch.finfo(narrow).max, -torch.finfo(narrow).max, 1.5]


def test_sharded_like_the_base(tmp_path: Path) -> None:
    base, out = published(tmp_path, shards=3)
    ours = json.loads((out / "model.safetensors.index.json").read_text())
    theirs = json.loads((base / "model.safetensors.index.json").read_text())
    assert ours["weight_map"] == theirs["weight_map"]
    assert ours["metadata"]["total_size"] == sum(tensor.nbytes for tensor in load_model(out).values())
    for file in set(theirs["weight_map"].values()):
        assert load_file(out / file).keys() == load_file(base / file).keys()
    assert sorted(path.name for path in out.glob("*.safetensors")) == sorted(set(theirs["weight_map"].values()))


def test_the_index_keeps_its_name_and_its_size_follows_the_type(tmp_path: Path) -> None:
    base = random_base()
    place = write_model(tmp_path / "base", base, shards=2)
    (place / "model.safetensors.index.json").rename(place / "model.fp16.safetensors.index.json")
    with open_weights(place) as files:
        assert files.index == "model.fp16.safetensors.index.json"
    merge(place, tmp_path / "out", [write_model(tmp_path / "1", fine_tune(base, 1))], dtype=DType.F32)
    index = json.loads((tmp_path / "out" / "model.fp16.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in load_model(tmp_path / "out").values())


@pytest.mark.parametrize("dtype", [None, DType.F32])
def test_every_tensor_is_aligned_to_its_type(tmp_path: Path, dtype: DType | None) -> None:
    _, out = published(tmp_path, dtype=dtype, shards=2)
    for path in out.glob("*.safetensors"):
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        assert header["__metadata__"]["format"] == "pt"
        for name, entry in header.items():
            if name != "__metadata__":
                assert (8 + length + entry["data_offsets"][0]) % DType(entry["dtype"]).size == 0, name


def test_tied_weights_stay_equal_and_keep_both_names(tmp_path: Path) -> None:
    base, out = published(tmp_path)
    tensors = load_model(out)
    assert torch.equal(tensors[HEAD], tensors[EMBEDDING])
    assert not torch.equal(tensors[HEAD], load_model(base)[HEAD])


def test_a_bare_file_becomes_a_directory_that_tools_find(tmp_path: Path) -> None:
    base = random_base()
    place = write_model(tmp_path / "base", base)
    bare = (place / "model.safetensors").rename(tmp_path / "weights.safetensors")
    merge(bare, tmp_path / "out", [write_model(tmp_path / "1", fine_tune(base, 1))])
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == base.keys()


def test_what_is_not_weights_comes_along(tmp_path: Path) -> None:
    base = random_base()
    place = write_model(tmp_path / "base", base)
    side = {
        "tokenizer.json": b'{"a": 1}', "chat_template.jinja": b"{{ x }}", "generation_config.json": b"{}",
        "sub/vocab.txt": b"a\nb\n", "modeling_custom.py": b"x = 1\n",
    }  # fmt: skip
    for name, content in side.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(content)
    (place / "README.md").write_text("the base's own card")
    (place / "pytorch_model.bin").write_bytes(b"old weights")
    merge(place, tmp_path / "out", [write_model(tmp_path / "1", fine_tune(base, 1))])
    out = tmp_path / "out"
    assert {name: (out / name).read_bytes() for name in side} == side
    assert not (out / "pytorch_model.bin").exists()
    assert "the base's own card" not in (out / "README.md").read_text()


def test_digests_are_those_of_the_bytes_in_the_files(tmp_path: Path) -> None:
    _, out = published(tmp_path, shards=2)
    manifest = json.loads((out / "mergenode.json").read_text())
    for path in out.glob("*.safetensors"):
        with safe_open(path, "pt") as reader:
            for name in reader.keys():  # noqa: SIM118 - not a mapping
                raw = reader.get_tensor(name).contiguous().reshape(-1).view(torch.uint8).numpy()
                assert manifest["tensors"][name] == f"blake3:{blake3(raw.tobytes()).hexdigest()}"
