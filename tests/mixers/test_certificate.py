"""A structure that is wrong does not pass, whatever derived it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mergenode.errors import UsageError
from mergenode.mixers.certificate import certify
from mergenode.mixers.graph import derive
from mergenode.mixers.symmetry import Factor
from tests.support.networks import MLP, Grouped, ResNet, Transformer, inputs_of, vgg


@pytest.mark.parametrize(("make", "every"), [(ResNet, 6), (vgg, 1), (Transformer, 2), (Grouped, 2)])
def test_a_tensor_left_behind_is_noticed_where_it_is_used(make: Callable[[], nn.Module], every: int) -> None:
    network = make().eval()
    inputs = inputs_of(network, torch.Generator().manual_seed(0))
    symmetry = derive(network, inputs)
    moving = [name for name, layout in symmetry.tensors.items() if any(f.group for axis in layout for f in axis)]
    state = network.state_dict(keep_vars=True)
    for name in moving[::every]:
        still = tuple(tuple(Factor(factor.size) for factor in axis) for axis in symmetry.tensors[name])
        aliases = {other: still for other, tensor in state.items() if tensor is state[name]}
        wrong = replace(symmetry, tensors={**symmetry.tensors, **aliases})
        paths = "|".join(re.escape(f"'{alias.rpartition('.')[0]}'") for alias in aliases)
        with torch.no_grad(), pytest.raises(UsageError, match=f"({paths}|the model) .*computes something else"):
            certify(wrong, network, inputs)


def test_units_that_are_said_to_move_but_do_not_are_noticed() -> None:
    network = MLP().eval()
    inputs = inputs_of(network, torch.Generator().manual_seed(0))
    symmetry = derive(network, inputs)
    group = symmetry.groups[0]
    wrong = replace(symmetry, tensors={**symmetry.tensors, "hidden.0.weight": ((Factor(24),), (Factor(64),))})
    assert group.size == 24
    with torch.no_grad(), pytest.raises(UsageError, match=r"'hidden.0'"):
        certify(wrong, network, inputs)


class Scaled(nn.Module):
    """Reads a weight outside of the forward pass that is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
        self.kept = [self.first.weight.detach().clone()[:, 0]]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(x) * self.kept[0])
        return logits


def test_constants_of_the_code_pin_what_they_touch() -> None:
    symmetry = derive(Scaled(), (torch.randn(3, 4),))
    assert symmetry.groups == ()
