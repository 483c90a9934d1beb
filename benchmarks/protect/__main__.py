"""``python -m benchmarks.protect``: what is left of an old skill when a contribution for a new one is vetoed.

For each bound the accuracies of ``base + vetoed delta``, and the old skill of ``base + w delta`` with the w at which
the new skill is the same: the cheaper protection that needs no Fisher. Means and standard errors over seeds.
"""

from __future__ import annotations

import sys
from math import inf
from statistics import mean, stdev

import torch
from torch import Tensor

from mergenode.maths.veto import count_rises, total_rise, veto, veto_threshold
from tests.support.checkpoints import Tensors
from tests.support.two_skills import examples, loss_of, network, scores, trained

BOUNDS: dict[str, dict[str, float]] = {
    "none": {},
    "max_rise: 0.01": {"max_rise": 0.01},
    "max_rise: 0.005": {"max_rise": 0.005},
    "max_share: 0.3": {"max_share": 0.3},
    "max_share: 0.2": {"max_share": 0.2},
    "max_share: 0.1": {"max_share": 0.1},
}
WEIGHTS = [number / 100 for number in range(0, 101)]


def fisher_of(weights: Tensors) -> Tensors:
    """The diagonal Fisher on the old skill: mean of the squared gradients of single examples."""
    model = network()
    model.load_state_dict(weights)
    inputs, classes = examples("old", 1)
    found = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for number in range(len(inputs)):
        model.zero_grad()
        loss_of(model, inputs[number : number + 1], classes[number : number + 1]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            found[name] += parameter.grad.square() / len(inputs)
    return found


@torch.no_grad()
def old_loss(weights: Tensors) -> float:
    model = network()
    model.load_state_dict(weights)
    return float(loss_of(model, *examples("old", 1)))


def vetoed(delta: Tensors, fisher: Tensors, bound: dict[str, float]) -> tuple[Tensors, float, float]:
    """What is left of the delta, the share of its squared norm that is not, the rise that was predicted for what is."""
    counts = torch.stack([count_rises(fisher[name].flatten(), step.flatten()) for name, step in delta.items()]).sum(0)
    threshold = veto_threshold(counts, **bound) if bound else inf
    left: Tensors = {}
    lost = 0.0
    for name, step in delta.items():
        flat: Tensor = step.flatten().clone()
        lost += veto(flat, fisher[name].flatten(), threshold)
        left[name] = flat.view_as(step)
    return (
        left,
        lost / sum(float(step.double().square().sum()) for step in delta.values()),
        total_rise(counts, threshold),
    )


def weighed(base: Tensors, delta: Tensors, new: float) -> float:
    """The old skill at the smallest weight at which the new one is as good."""
    for weight in WEIGHTS:
        found = scores({name: base[name] + weight * step for name, step in delta.items()})
        if found["new"] >= new:
            return found["old"]
    return found["old"]


def main(seeds: int) -> None:
    figures: dict[str, list[tuple[float, ...]]] = {name: [] for name in BOUNDS}
    for seed in range(seeds):
        base = trained(None, "old", seed=seed)
        tuned = trained(base, "new", steps=60, seed=seed)
        delta, fisher = {name: tuned[name] - base[name] for name in base}, fisher_of(base)
        for name, bound in BOUNDS.items():
            left, share, rise = vetoed(delta, fisher, bound)
            merged = {key: base[key] + step for key, step in left.items()}
            found = scores(merged)
            real = old_loss(merged) - old_loss(base)
            figures[name].append(
                (found["old"], found["new"], share, weighed(base, delta, found["new"]), rise, real)
            )  # fmt: skip
    print(f"{seeds} seeds: mean (standard error)")
    print("bound | old | new | vetoed | old by weight, same new | rise predicted | real")
    for name, rows in figures.items():
        columns = list(zip(*rows, strict=True))
        print(name, *(f"{mean(each):.3f} ({stdev(each) / len(each) ** 0.5:.3f})" for each in columns), sep=" | ")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
