"""Task vectors as one flat tensor each, in the order of the model's tensors, and models made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.selection.suite import Candidate
from mergenode.ledger.groups import layer_group

FROZEN = "embeddings.word_embeddings.weight"
"""No expert of the suite moves it, so it is left out of the vectors."""

Weights = dict[str, Tensor]
GroupWeights = Mapping[str, Mapping[str, float]]
"""Group -> name of a candidate -> its coefficient. The base takes what is missing to 1."""


@dataclass(frozen=True, slots=True)
class Space:
    """The base, and where each tensor and each layer group lies in a flat vector."""

    base: Weights
    names: tuple[str, ...]
    groups: Mapping[str, slice]

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """All tensors but the frozen one in one vector; missing ones are zero."""
        parts = [tensors.get(name, torch.zeros_like(self.base[name])) for name in self.names]
        return torch.cat([part.flatten() for part in parts])

    def weights(self, vector: Tensor) -> Weights:
        """base + vector, float32; the vector may be of higher precision."""
        parts = self.unflatten(vector)
        return {
            name: (base.to(vector.dtype) + parts[name]).float() if name in parts else base
            for name, base in self.base.items()
        }

    def unflatten(self, vector: Tensor) -> Weights:
        """The tensors of a flat vector by name, the frozen one left out."""
        made: Weights = {}
        start = 0
        for name in self.names:
            made[name] = vector[start : start + self.base[name].numel()].view_as(self.base[name])
            start += self.base[name].numel()
        return made


def open_space(base: Path) -> Space:
    """The space of the checkpoint ``base``. Tensors of a group lie next to each other."""
    weights = load_file(base / "model.safetensors")
    by_group: dict[str, list[str]] = {}
    for name in weights:
        if name != FROZEN:
            by_group.setdefault(layer_group(name), []).append(name)
    groups, start = {}, 0
    for group, names in by_group.items():
        size = sum(weights[name].numel() for name in names)
        groups[group] = slice(start, start + size)
        start += size
    return Space(weights, tuple(name for names in by_group.values() for name in names), groups)


class Vectors:
    """Task vectors by the name of the candidate, float32 in memory; multiples are made when they are asked for."""

    def __init__(self, space: Space, experts: Path, candidates: Sequence[Candidate]) -> None:
        self.space = space
        self._experts = experts
        self._candidates = {candidate.name: candidate for candidate in candidates}
        self._loaded: dict[str, Tensor] = {}

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        return self._candidates

    def source(self, name: str) -> Tensor:
        """The task vector of the candidate's source. Not to be modified."""
        candidate = self._candidates[name]
        if candidate.source not in self._loaded:
            self._loaded[candidate.source] = self._made(candidate)
        return self._loaded[candidate.source]

    def _made(self, candidate: Candidate) -> Tensor:
        if candidate.like:
            return self._noise(int(candidate.source.removeprefix("noise-")), self._expert(candidate.like))
        return self._expert(candidate.source)

    def _expert(self, name: str) -> Tensor:
        tuned = load_file(self._experts / name / "model.safetensors")
        return self.space.flatten({name: tensor - self.space.base[name] for name, tensor in tuned.items()})

    def _noise(self, seed: int, like: Tensor) -> Tensor:
        made, start = torch.zeros_like(like), 0
        draw = torch.Generator().manual_seed(seed)
        for name in self.space.names:
            part = slice(start, start + self.space.base[name].numel())
            noise = torch.randn(part.stop - part.start, generator=draw)
            made[part] = noise * (like[part].norm() / noise.norm())
            start = part.stop
        return made

    def norm(self, name: str) -> float:
        """||tau||, Frobenius."""
        return float(self.source(name).double().norm()) * abs(self._candidates[name].factor)

    def scores(self, gradient: Tensor) -> dict[str, dict[str, float]]:
        """<gradient, task vector> of every candidate in every layer group, products and sums in float64."""
        scores: dict[str, dict[str, float]] = {}
        doubled = gradient.double()
        of_source: dict[str, dict[str, float]] = {}
        for name, candidate in self._candidates.items():
            if candidate.source not in of_source:
                vector = self.source(name)
                of_source[candidate.source] = {
                    group: float(doubled[part] @ vector[part].double()) for group, part in self.space.groups.items()
                }
            scores[name] = {group: candidate.factor * a for group, a in of_source[candidate.source].items()}
        return scores

    def combined(self, weights: GroupWeights) -> Tensor:
        """sum_i w_i tau_i in every group, float64."""
        total = torch.zeros(sum(part.stop - part.start for part in self.space.groups.values()), dtype=torch.float64)
        for group, of_group in weights.items():
            parts = self.space.groups.values() if group == "*" else [self.space.groups[group]]
            for name, weight in of_group.items():
                factor = weight * self._candidates[name].factor
                for part in parts if factor else ():
                    total[part].add_(self.source(name)[part].double(), alpha=factor)
        return total
