"""The structure that is derived: which units move together, and which models are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mergenode.errors import UsageError
from mergenode.mixers.graph import derive
from tests.support.networks import MLP, NETWORKS, Encoder, Grouped, ResNet, Transformer, inputs_of, settle, vgg

networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())


@networks
@pytest.mark.parametrize("seed", [0, 1])
def test_a_permuted_network_computes_the_same(make: Callable[[], nn.Module], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    network, copy = settle(make(), generator), make().eval()
    symmetry = derive(network, inputs_of(network, generator))
    copy.load_state_dict(symmetry.permuted(network.state_dict(), symmetry.random(generator)))
    batch = inputs_of(network, generator, count=5)
    with torch.no_grad():
        expected = network(*batch)
        torch.testing.assert_close(copy(*batch), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@networks
def test_the_model_is_left_as_it_was(make: Callable[[], nn.Module]) -> None:
    network = make().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    derive(network, inputs_of(network, torch.Generator().manual_seed(0)))
    assert all(module.training for module in network.modules())
    assert all(bool((tensor == before[name]).all()) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (MLP, {24: 2}),
        (vgg, {12: 1, 24: 2, 32: 1}),
        (ResNet, {8: 3, 16: 3, 32: 3}),  # one stream per stage and one group inside each of the six blocks
        (Transformer, {24: 1, 3: 2, 8: 4, 48: 2}),  # stream; per layer: heads, queries with keys, values, feed-forward
        (Encoder, {16: 1, 2: 2, 8: 2, 32: 2}),  # queries, keys and values in one matrix share their units
        (Grouped, {4: 1, 3: 1, 6: 2, 16: 1}),
    ],
)
def test_every_group_is_found_once(make: Callable[[], nn.Module], expected: dict[int, int]) -> None:
    network = make()
    symmetry = derive(network, inputs_of(network, torch.Generator().manual_seed(0)))
    assert Counter(group.size for group in symmetry.groups) == expected
    assert len({group.name for group in symmetry.groups}) == len(symmetry.groups)


def test_heads_move_as_blocks_and_units_only_within_them() -> None:
    network = Transformer()
    symmetry = derive(network, inputs_of(network, torch.Generator().manual_seed(0)))
    axis = symmetry.tensors["layers.0.attention.q_proj.weight"][0]
    assert [factor.size for factor in axis] == [3, 8]
    assert axis[1].outer == axis[0].group is not None
    assert symmetry.tensors["layers.0.attention.k_proj.bias"] == (axis,)
    values, mixed = (symmetry.tensors[f"layers.0.attention.{name}.weight"] for name in ("v_proj", "out_proj"))
    assert values[0] == mixed[1]
    assert values[0][0].group == axis[0].group and values[0][1].group != axis[1].group


def test_vocabulary_positions_and_classes_stay() -> None:
    network = Transformer()
    symmetry = derive(network, inputs_of(network, torch.Generator().manual_seed(0)))
    assert symmetry.tensors["tokens.weight"] == symmetry.tensors["head.weight"]
    assert symmetry.tensors["tokens.weight"][0][0].group is None
    assert [bool(axis and axis[0].group) for axis in symmetry.tensors["positions"]] == [False, False, True]
    assert symmetry.learned.count("tokens.weight") + symmetry.learned.count("head.weight") == 1


class Wrapped(nn.Module):
    """A layer, something in a module called ``middle``, a layer."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 8), middle, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.middle(self.first(x)))
        return logits


def module_of(code: Callable[[Tensor], Tensor]) -> nn.Module:
    class Code(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return code(x)

    return Code()


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return x


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.lstm(x)[0]
        return result


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (Recurrent(), r"'middle.lstm' \(LSTM\)"),
        (module_of(lambda x: x.cumsum(-1)), r"'middle' \(Code\).*'cumsum' has no rule"),
        (module_of(lambda x: x.roll(1, -1)), "'middle'.*'roll' has no rule"),
        (module_of(lambda x: x if x.sum() > 0 else -x), "'middle'.*could not be followed"),
        (module_of(lambda x: torch.cat([x[:, 4:], x[:, :4]], 1)), "'middle'.*a slice of units"),
        (module_of(lambda x: torch.cat([x, x], 1)[..., :8]), "'middle'.*side by side"),
        (module_of(lambda x: functional.avg_pool1d(x[:, None], 3, 1, 1)[:, 0]), "'middle'.*pooling along units"),
        (
            nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 1, 1), nn.Flatten()),
            r"'middle.1' \(Conv1d\).*along units",
        ),
        (module_of(lambda x: x[:, torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])]), "'middle'"),
        (module_of(lambda x: x.sort(-1).values), "'middle'"),
        (module_of(lambda x: x * x.var(False)), "'middle'.*an unusual form"),
        (Unused(), r"'middle' \(Unused\) holds 'middle.spare'"),
        (torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), "'middle'"),
        (
            nn.Sequential(nn.Unflatten(1, (8, 1)), nn.LocalResponseNorm(3), nn.Flatten()),
            r"'middle.1' \(LocalResponseNorm\).*no rule",
        ),
    ],
)
def test_what_cannot_be_derived_is_refused_by_name(middle: nn.Module, named: str) -> None:
    network = Wrapped(middle)
    with pytest.raises(UsageError, match=named) as refused:
        derive(network, (torch.randn(2, 6),))
    assert "docs/mixing.md" in refused.value.hint
    assert network.training


def test_a_module_with_hooks_is_refused() -> None:
    network = Wrapped(nn.ReLU())
    network.middle.register_forward_hook(lambda module, args, output: output.flip(-1))
    with pytest.raises(UsageError, match=r"'middle' .*has hooks"):
        derive(network, (torch.randn(2, 6),))


@pytest.mark.parametrize(
    ("code", "moving"),
    [
        (lambda x: torch.relu(x) * 2 + 1, True),
        (lambda x: x - x.mean(-1, keepdim=True), True),
        (lambda x: x.softmax(-1), True),
        (lambda x: x.view(-1, 2, 4).transpose(1, 2).flatten(1).view(-1, 4, 2).transpose(1, 2).flatten(1), True),
        (lambda x: (x.unsqueeze(1).expand(-1, 3, -1) * 0.5).sum(1), True),
        (lambda x: x + torch.arange(8), False),
        (lambda x: x @ torch.eye(8), False),
        (lambda x: x * x[:, 0:8], True),
        (lambda x: x + x[:, 0][:, None], False),
    ],
)  # fmt: skip
def test_operations_between_two_layers(code: Callable[[Tensor], Tensor], moving: bool) -> None:
    symmetry = derive(Wrapped(module_of(code)), (torch.randn(2, 6),))
    assert bool(symmetry.groups) == moving


def test_code_that_does_not_run_in_double_precision_is_tested_in_its_own() -> None:
    symmetry = derive(Wrapped(module_of(lambda x: x.float())), (torch.randn(2, 6),))
    assert [group.size for group in symmetry.groups] == [8]


def same_after_permuting(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[int]:
    """The sizes of the groups of a network, once a permuted copy was seen to compute the same."""
    symmetry = derive(network, inputs)
    permuted = symmetry.permuted(network.state_dict(), symmetry.random(torch.Generator().manual_seed(1)))
    with torch.no_grad():
        expected = network(*inputs)
        network.load_state_dict(permuted)
        torch.testing.assert_close(network(*inputs), expected, rtol=0, atol=1e-5)
    return [group.size for group in symmetry.groups]


def test_a_module_that_is_called_twice_ties_what_comes_in_and_out() -> None:
    shared = nn.Linear(8, 8)
    assert same_after_permuting(Wrapped(nn.Sequential(shared, nn.ReLU(), shared)), (torch.randn(2, 6),)) == [8]


class SharedKeys(nn.Module):
    """Four heads of queries over two heads of keys and values, ``[n, 5, 8]``."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = nn.Linear(8, 12), nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, places, _ = x.shape
        q = self.q(x).view(n, places, 4, 3).transpose(1, 2)
        k, v = (
            part(x)
            .view(n, places, 2, 3)
            .transpose(1, 2)[:, :, None]
            .expand(n, 2, 2, places, 3)
            .reshape(n, 4, places, 3)
            for part in (self.k, self.v)
        )
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return logits


def test_heads_that_share_keys_move_with_them() -> None:
    assert same_after_permuting(SharedKeys().eval(), (torch.randn(2, 5, 8),)) == [2, 3, 3]


def test_transposed_convolutions_and_upsampling() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.PReLU(6), nn.ConvTranspose2d(6, 5, 2, stride=2),
        nn.LeakyReLU(), nn.UpsamplingNearest2d(scale_factor=2), nn.Conv2d(5, 1, 1),
    ).eval()  # fmt: skip
    assert same_after_permuting(network, (torch.randn(2, 2, 6, 6),)) == [6, 5]
