"""Which files of a directory are the checkpoint: every rule of the module's list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.layout import Layout, choose_layout
from mergenode.errors import RejectedError, RejectReason

MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WEIGHT_MAP = {"a": SHARDS[0], "b": SHARDS[1]}


def _choose(*names: str) -> Layout:
    return choose_layout(Path("place"), tuple(sorted(names)), lambda name: dict(WEIGHT_MAP))


@pytest.mark.parametrize(
    ("names", "files", "ignored"),
    [
        ((MODEL,), (MODEL,), ()),
        ((MODEL, "config.json", "tokenizer.json", "optimizer.pt"), (MODEL,), ()),
        ((MODEL, "consolidated.safetensors"), (MODEL,), ("consolidated.safetensors",)),
        (("diffusion_pytorch_model.safetensors",), ("diffusion_pytorch_model.safetensors",), ()),
        ((INDEX, *SHARDS), SHARDS, ()),
        ((INDEX, *SHARDS, MODEL), SHARDS, (MODEL,)),
        ((INDEX, "other.safetensors.index.json", *SHARDS), SHARDS, ()),
        ((MODEL, ".model.safetensors.part", ".hidden.safetensors"), (MODEL,), ()),
        ((MODEL, "odd\nname.safetensors"), (MODEL,), ()),
    ],
)
def test_good_layouts(names: tuple[str, ...], files: tuple[str, ...], ignored: tuple[str, ...]) -> None:
    layout = _choose(*names)
    assert (layout.files, layout.ignored, layout.adapter) == (files, ignored, False)
    assert (layout.weight_map is not None) == (INDEX in names)


def test_an_adapter() -> None:
    assert _choose(ADAPTER, SETTINGS, "README.md") == Layout((ADAPTER,), adapter=True)
    assert _choose(ADAPTER).adapter  # its settings are missed later, with a reason of their own


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((INDEX, SHARDS[0]), RejectReason.SHARD_MISSING),
        ((INDEX,), RejectReason.SHARD_MISSING),
        ((INDEX, SHARDS[0], MODEL), RejectReason.AMBIGUOUS_WEIGHTS),
        (("a.safetensors.index.json", "b.safetensors.index.json", *SHARDS), RejectReason.AMBIGUOUS_WEIGHTS),
        (SHARDS, RejectReason.AMBIGUOUS_WEIGHTS),
        ((MODEL, SHARDS[0]), RejectReason.AMBIGUOUS_WEIGHTS),
        (("a.safetensors", "b.safetensors"), RejectReason.AMBIGUOUS_WEIGHTS),
        ((ADAPTER, SETTINGS, MODEL), RejectReason.AMBIGUOUS_WEIGHTS),
        ((SETTINGS,), RejectReason.NO_WEIGHTS),
        ((SETTINGS, "adapter_model.bin"), RejectReason.PICKLE_ONLY),
        (("pytorch_model.bin",), RejectReason.PICKLE_ONLY),
        (("model.ckpt",), RejectReason.PICKLE_ONLY),
        (("consolidated.00.pth",), RejectReason.PICKLE_ONLY),
        (("model.pt",), RejectReason.PICKLE_ONLY),
        (("config.json",), RejectReason.NO_WEIGHTS),
        ((), RejectReason.NO_WEIGHTS),
        ((".hidden.safetensors",), RejectReason.NO_WEIGHTS),
    ],
)
def test_bad_layouts(names: tuple[str, ...], reason: RejectReason) -> None:
    with pytest.raises(RejectedError) as caught:
        _choose(*names)
    assert caught.value.reason is reason
    assert caught.value.message.startswith("place: ")
    assert caught.value.hint


def test_a_missing_shard_says_which_tensor_it_holds_and_how_many_are_there() -> None:
    with pytest.raises(RejectedError, match=r"00002-of-00002.*'b'.*1 of 2 shards"):
        _choose(INDEX, SHARDS[0])
