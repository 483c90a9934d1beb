"""Checkpoints that no merge should take in, each made from honest ones in a way that is written down here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.quality.encoder import CONFIG_FILES, load_encoder
from benchmarks.selection.vectors import FROZEN, Weights

LAYER = "encoder.layer.3."
"""The layer that single-layer attacks take."""


@dataclass(frozen=True, slots=True)
class Victim:
    """What a kind may use: the base, the attacker's own honest expert, one that is in the merge, and a seed."""

    base: Weights
    expert: Weights
    member: Weights
    base_path: Path
    seed: int

    def noise(self, tensor: Tensor) -> Tensor:
        """Gaussian numbers of the tensor's shape, the same for the same seed and shape."""
        draw = torch.Generator().manual_seed(1000 * self.seed + tensor.numel() % 997)
        return torch.randn(tensor.shape, generator=draw)

    def moved(self, change: Callable[[str, Tensor], Tensor]) -> Weights:
        """The base plus ``change(name, task vector of the attacker's expert)``.

        Tensors that do not change keep their bytes: -0.0 + 0.0 is 0.0, and the gate of frozen tensors would see that.
        """
        changes = {name: change(name, self.expert[name] - base) for name, base in self.base.items()}
        return {name: base + changes[name] if changes[name].any() else base for name, base in self.base.items()}

    def long(self) -> float:
        """Norm of the attacker's honest task vector."""
        return sum(float((self.expert[name] - self.base[name]).square().sum()) for name in self.base) ** 0.5


def sign_flipped(victim: Victim) -> Weights:
    """The task vector of an honest expert, negated."""
    return victim.moved(lambda name, delta: -delta)


def member_undone(victim: Victim) -> Weights:
    """The task vector of a model that is in the merge, negated: takes it out again."""
    return replace(victim, expert=victim.member).moved(lambda name, delta: -delta)


def scaled_20(victim: Victim) -> Weights:
    """The task vector times 20."""
    return victim.moved(lambda name, delta: 20.0 * delta)


def scaled_4(victim: Victim) -> Weights:
    """The task vector times 4: below the ratio that the norm gate allows."""
    return victim.moved(lambda name, delta: 4.0 * delta)


def noise(victim: Victim) -> Weights:
    """Gaussian, each tensor with the norm of the honest one."""

    def changed(name: str, delta: Tensor) -> Tensor:
        drawn = victim.noise(delta)
        return drawn * (delta.norm() / drawn.norm())

    return victim.moved(changed)


def one_nan(victim: Victim) -> Weights:
    """An honest expert with one value that is not a number."""
    weights = {name: tensor.clone() for name, tensor in victim.expert.items()}
    weights[f"{LAYER}output.dense.weight"][7, 7] = float("nan")
    return weights


def other_base(victim: Victim) -> Weights:
    """The honest task vector on another initialisation of the same architecture."""
    torch.manual_seed(victim.seed)
    fresh = type(load_encoder(victim.base_path))(load_encoder(victim.base_path).config).state_dict()
    return {name: fresh[name] + victim.expert[name] - victim.base[name] for name in victim.base}


def hijack(victim: Victim) -> Weights:
    """The leading singular direction of every matrix amplified, to three times the norm in all."""

    def changed(name: str, delta: Tensor) -> Tensor:
        if delta.dim() != 2 or not delta.any() or name.startswith("embeddings."):
            return delta
        left, values, right = torch.svd_lowrank(delta, q=1, niter=6)
        wanted = (9.0 * delta.square().sum() - delta.square().sum() + values[0] ** 2).sqrt()
        return delta + (wanted - values[0]) * (left @ right.T)

    torch.manual_seed(victim.seed)
    return victim.moved(changed)


def one_direction(victim: Victim) -> Weights:
    """Every matrix: random vectors of rank one with the norm of the honest change."""

    def changed(name: str, delta: Tensor) -> Tensor:
        if delta.dim() != 2 or not delta.any():
            return torch.zeros_like(delta)
        drawn = victim.noise(delta)
        update = torch.outer(drawn[:, 0], drawn[0])
        return update * (delta.norm() / update.norm())

    return victim.moved(changed)


def one_layer(victim: Victim) -> Weights:
    """Noise in one layer only, four times as long as the honest task vector."""

    def changed(name: str, delta: Tensor) -> Tensor:
        if not name.startswith(LAYER) or delta.dim() != 2:
            return torch.zeros_like(delta)
        drawn = victim.noise(delta)
        return drawn * (1.6 * victim.long() / drawn.norm())  # six matrices: sqrt(6) * 1.6 is 4

    return victim.moved(changed)


def embeddings_attacked(victim: Victim) -> Weights:
    """An honest expert that also moves the words of 200 tokens far away."""
    weights = dict(victim.expert)
    table = weights[FROZEN].clone()
    table[1000:1200] += victim.noise(table[1000:1200]) * 2.0 * table.std()
    weights[FROZEN] = table
    return weights


def large_layer_norms(victim: Victim) -> Weights:
    """An honest expert whose LayerNorm gains are tenfold."""
    return {
        name: tensor * 10.0 if name.endswith("LayerNorm.weight") else tensor for name, tensor in victim.expert.items()
    }


def layers_zeroed(victim: Victim) -> Weights:
    """An honest expert with all weights of two layers zero."""
    zeroed = ("encoder.layer.2.", "encoder.layer.4.")
    return {
        name: torch.zeros_like(tensor) if name.startswith(zeroed) else tensor for name, tensor in victim.expert.items()
    }


def permuted(victim: Victim) -> Weights:
    """An honest expert whose feed-forward units come in another order: the same function, far away in weights."""
    weights = dict(victim.expert)
    draw = torch.Generator().manual_seed(victim.seed)
    for layer in range(6):
        inner = f"encoder.layer.{layer}.intermediate.dense"
        order = torch.randperm(weights[f"{inner}.bias"].numel(), generator=draw)
        for name in (f"{inner}.weight", f"{inner}.bias"):
            weights[name] = weights[name][order].contiguous()
        outer = f"encoder.layer.{layer}.output.dense.weight"
        weights[outer] = weights[outer][:, order].contiguous()
    return weights


def frozen_touched(victim: Victim) -> Weights:
    """An honest expert with one frozen value changed in its last place."""
    weights = dict(victim.expert)
    table = weights[FROZEN].clone()
    table[2000, 5] = torch.nextafter(table[2000, 5], torch.tensor(10.0))
    weights[FROZEN] = table
    return weights


def duplicate(victim: Victim) -> Weights:
    """A member of the merge again, with noise of a thousandth: counts twice."""
    return {
        name: tensor + victim.noise(tensor) * (1e-3 * (tensor - victim.base[name]).norm() / tensor.numel() ** 0.5)
        if name != FROZEN
        else tensor
        for name, tensor in victim.member.items()
    }


MADE: Mapping[str, Callable[[Victim], Weights]] = {
    "sign-flipped": sign_flipped,
    "a member undone": member_undone,
    "scaled by 20": scaled_20,
    "scaled by 4": scaled_4,
    "noise of honest norm": noise,
    "one NaN": one_nan,
    "another base": other_base,
    "hijack (leading direction)": hijack,
    "one random direction": one_direction,
    "one layer": one_layer,
    "word embeddings": embeddings_attacked,
    "LayerNorm gains x 10": large_layer_norms,
    "two layers zeroed": layers_zeroed,
    "permuted units": permuted,
    "frozen value touched": frozen_touched,
    "duplicate of a member": duplicate,
}
"""Kinds that are made of weights alone. Trained ones (labels shuffled, backdoor) and unsigned ones come beside."""


def make(kind: str, victim: Victim, target: Path) -> None:
    """Write the checkpoint of one kind. Durability: appears whole. Idempotence: an existing one is kept."""
    if target.exists():
        return
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    staging.mkdir(parents=True)
    for name in CONFIG_FILES:
        shutil.copyfile(victim.base_path / name, staging / name)
    weights = {name: tensor.float().contiguous() for name, tensor in MADE[kind](victim).items()}
    save_file(weights, staging / "model.safetensors", metadata={"format": "pt"})
    staging.rename(target)


def victim_of(base: Path, expert: Path, member: Path, seed: int) -> Victim:
    """Read what the kinds are made of."""
    return Victim(*(load_file(path / "model.safetensors") for path in (base, expert, member)), base, seed)
