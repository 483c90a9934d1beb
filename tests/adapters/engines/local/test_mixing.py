"""Models in files are mixed like models in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergenode.adapters.engines.local import mixing
from mergenode.adapters.engines.local.mixing import LocalModels
from mergenode.errors import FatalError
from mergenode.mixers.defence import Recipe
from mergenode.mixers.mix import Share, mix
from mergenode.types import DType

MODELS = LocalModels()


def model(seed: int, *, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "b.weight": torch.randn(7, 11, generator=generator).to(dtype),
        "a.bias": torch.randn(5, generator=generator).double(),
        "empty": torch.zeros(0, 3),
        "norm.num_batches_tracked": torch.tensor(seed),
    }


def saved(folder: Path, name: str, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a tensor has several of them."""
    monkeypatch.setattr(mixing, "SLICE_ELEMENTS", 13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mix_of_files_is_the_mix_of_their_tensors(tmp_path: Path, dtype: torch.dtype) -> None:
    states = [model(seed, dtype=dtype) for seed in range(3)]
    paths = [saved(tmp_path, str(seed), state) for seed, state in enumerate(states)]
    target = tmp_path / ".new-mix.safetensors"
    MODELS.mix(paths[0], paths[1:], Recipe(coefficients=(0.25, 0.5)), target)
    wanted = mix(states[0], [Share(states[1], 0.25), Share(states[2], 0.5)])
    got = load_file(target)
    assert got.keys() == wanted.keys() and all(torch.equal(got[name], wanted[name]) for name in wanted)
    again = target.read_bytes()
    MODELS.mix(paths[0], paths[1:], Recipe(coefficients=(0.25, 0.5)), target)
    assert target.read_bytes() == again


def test_coordinatewise_rules_see_every_element(tmp_path: Path) -> None:
    states = [model(seed) for seed in range(7)]
    paths = [saved(tmp_path, str(seed), state) for seed, state in enumerate(states)]
    target = tmp_path / "mix.safetensors"
    MODELS.mix(paths[0], paths[1:], Recipe(coefficients=(1.0,) * 6, rule="median", share=0.5, drop=2), target)
    own = states[0]["b.weight"].double().numpy()
    others = np.stack([state["b.weight"].double().numpy() for state in states[1:]])
    wanted = own + 0.5 * np.median(others - own, axis=0)
    np.testing.assert_allclose(load_file(target)["b.weight"].numpy(), wanted, rtol=1e-6)


def test_geometry_is_that_of_the_flat_vectors(tmp_path: Path) -> None:
    states = [model(seed) for seed in range(4)]
    paths = [saved(tmp_path, str(seed), state) for seed, state in enumerate(states)]
    flat = [torch.cat([s["a.bias"], s["b.weight"].double().flatten()]) for s in states]
    found = MODELS.measure(paths[0], paths[1], paths[2:])
    rows = torch.stack([flat[2] - flat[0], flat[3] - flat[0]])
    torch.testing.assert_close(torch.tensor(found.gram).double(), rows @ rows.mT)
    torch.testing.assert_close(torch.tensor(found.along).double(), rows @ (flat[0] - flat[1]))
    assert found.update == pytest.approx(float((flat[0] - flat[1]).norm()))


def test_what_is_wrong_with_a_model_is_named(tmp_path: Path) -> None:
    own = saved(tmp_path, "own", model(0))

    def said(tensors: dict[str, Tensor]) -> tuple[str, str]:
        found = MODELS.inspect(own, saved(tmp_path, "other", tensors))
        return found.code, found.message

    good = MODELS.inspect(own, own)
    assert good.code == "" and good.norm > 0
    broken = model(1)
    broken["b.weight"][3, 4] = float("inf")
    assert said(broken) == ("not_finite", "tensor 'b.weight' holds NaN or an infinity")
    assert said({**model(1), "more": torch.zeros(1)}) == ("schema", "tensor 'more' is surplus")
    less = model(1)
    del less["a.bias"]
    assert said(less) == ("schema", "tensor 'a.bias' is missing")
    assert said(model(1, dtype=torch.bfloat16))[1] == "tensor 'b.weight' is BF16 [7, 11] and should be F32 [7, 11]"
    (tmp_path / "other.safetensors").write_bytes(b"\xff" * 100)
    assert MODELS.inspect(own, tmp_path / "other.safetensors").code == "header_too_large"


def test_one_file_of_several_and_a_version(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    state = model(3)
    save_file(state, folder / "model.safetensors")
    MODELS.unite(folder, tmp_path / "one.safetensors")
    assert MODELS.content(tmp_path / "one.safetensors") == MODELS.content(folder)
    (tmp_path / "staging").mkdir()
    digests = LocalModels(publish_dtype=DType.BF16).export(tmp_path / "one.safetensors", str(tmp_path / "staging"))
    got = load_file(tmp_path / "staging/model.safetensors")
    assert digests.keys() == state.keys() == got.keys()
    assert torch.equal(got["a.bias"], state["a.bias"].bfloat16()) and got["norm.num_batches_tracked"] == 3
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(1, 2)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(FatalError, match="is an adapter"):
        MODELS.unite(adapter, tmp_path / "two.safetensors")
