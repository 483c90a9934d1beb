"""What the demo pushes is what it says: readable ones by any program, bad ones bad in exactly one way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.demo.checkpoints import read_weights, write_adapter, write_damaged, write_diverged, write_full
from mergenode.demo.network import NetworkConfig, Weights
from mergenode.demo.training import ADAPTED, Adapter
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import Kind


def _adapter(base: Weights) -> Adapter:
    generator = torch.Generator().manual_seed(4)
    down = {each: torch.randn(8, base[f"{each}.weight"].shape[1], generator=generator) for each in ADAPTED}
    up = {each: torch.randn(base[f"{each}.weight"].shape[0], 8, generator=generator) for each in ADAPTED}
    return Adapter(8, 16, down, up)


def test_full_checkpoint_comes_back(tmp_path: Path, base: Weights, config: NetworkConfig) -> None:
    directory = write_full(tmp_path / "base", base, config)
    loaded = read_weights(directory)
    assert loaded.keys() == base.keys()
    assert all(torch.equal(loaded[name], base[name]) for name in base)
    document = json.loads((directory / "config.json").read_text())
    assert document["hidden_size"] == config.hidden_size
    with safe_open(directory / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_adapter_is_a_peft_directory_that_the_node_reads(tmp_path: Path, base: Weights, config: NetworkConfig) -> None:
    model = write_full(tmp_path / "base", base, config)
    adapter = _adapter(base)
    directory = write_adapter(tmp_path / "adapter", adapter, model)
    settings = json.loads((directory / "adapter_config.json").read_text())
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 8, 16)
    with safe_open(directory / "adapter_model.safetensors", "pt") as file:
        names = set(file.keys())
        down = file.get_tensor("base_model.model.mix.lora_A.weight")
        up = file.get_tensor("base_model.model.mix.lora_B.weight")
    assert names == {f"base_model.model.{each}.lora_{letter}.weight" for each in ADAPTED for letter in "AB"}
    expected = base["mix.weight"] + 16 / 8 * up @ down
    torch.testing.assert_close(adapter.applied_to(base)["mix.weight"], expected, rtol=0, atol=0)
    with open_contribution(directory, describe_base(model)) as contribution:
        assert contribution.kind is Kind.ADAPTER
        assert set(contribution.entries) == {f"{each}.weight" for each in ADAPTED}


def test_damaged_checkpoint_has_the_right_size_and_a_wrong_header(
    tmp_path: Path, base: Weights, config: NetworkConfig
) -> None:
    model = write_full(tmp_path / "base", base, config)
    directory = write_damaged(tmp_path / "damaged", base, config)
    name = "model.safetensors"
    assert (directory / name).stat().st_size == (model / name).stat().st_size
    with pytest.raises(RejectedError) as caught:
        open_contribution(directory, describe_base(model)).close()
    assert caught.value.reason is RejectReason.HEADER_INVALID


def test_diverged_checkpoint_differs_in_one_matrix(tmp_path: Path, base: Weights, config: NetworkConfig) -> None:
    loaded = read_weights(write_diverged(tmp_path / "diverged", base, config))
    broken = [name for name in loaded if not torch.isfinite(loaded[name]).all()]
    assert broken == ["layers.1.down_proj.weight"]
    assert int(torch.isnan(loaded[broken[0]]).sum()) == 4
    assert torch.isfinite(base[broken[0]]).all()
