"""Small networks of the kinds that people match: MLP, VGG, ResNet, transformers. Seeded by the caller."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mergenode.mixers.graph import derive
from mergenode.mixers.symmetry import Symmetry


class MLP(nn.Module):
    """``[n, 64]`` to ten logits."""

    def __init__(self, width: int = 24, depth: int = 2) -> None:
        super().__init__()
        sizes = [64, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = functional.relu(layer(x))
        logits: Tensor = self.head(x)
        return logits


def vgg(width: int = 12) -> nn.Module:
    """``[n, 3, 8, 8]`` to ten logits: convolutions with BatchNorm, pooling, flattened places, a hidden layer."""

    def block(channels: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(
        *block(3, width), nn.MaxPool2d(2), *block(width, 2 * width), *block(2 * width, 2 * width), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * width, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10),
    )  # fmt: skip


class BasicBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return functional.relu(out)


class ResNet(nn.Module):
    """``[n, 3, 8, 8]`` to ten logits: three stages of two basic blocks."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(BasicBlock(a, b, 1 if a == b else 2), BasicBlock(b, b, 1))
                for a, b in itertools.pairwise(widths)
            )
        )
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(functional.relu(self.bn(self.stem(x))))
        x = functional.avg_pool2d(x, x.size(3))
        logits: Tensor = self.head(x.view(x.size(0), -1))
        return logits


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, places, width = x.shape
        q, k, v = (
            layer(x).view(batch, places, self.heads, -1).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5
        mixed = scores.softmax(dim=-1) @ v
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, places, width))
        return out


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return out


class Transformer(nn.Module):
    """Token ids ``[n, 6]`` to logits over the vocabulary: pre-norm, tied embeddings, learned positions."""

    def __init__(self, width: int = 24, heads: int = 3, vocabulary: int = 20) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(1, 6, width) * 0.2)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class Encoder(nn.Module):
    """``[n, 5, 7]`` to four logits, of the modules of torch.nn: class token, pre-norm encoder, fused projections."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(7, width)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        states = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], dim=1)
        logits: Tensor = self.head(self.encoder(states)[:, 0])
        return logits


class Grouped(nn.Module):
    """``[n, 3, 6, 6]`` to four logits: convolutions in groups and per channel, GroupNorm, gates, squeeze."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.groups = nn.Conv2d(12, 24, 3, padding=1, groups=4)
        self.norm = nn.GroupNorm(4, 24)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.squeeze, self.excite = nn.Linear(24, 6), nn.Linear(6, 24)
        self.gate = nn.Linear(24, 32)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.norm(self.groups(torch.relu(self.stem(x)))))
        x = self.depthwise(x)
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        x = (x * scale[:, :, None, None]).flatten(2).mean(-1)
        value, gate = self.gate(x).chunk(2, dim=-1)
        logits: Tensor = self.head(value * functional.gelu(gate))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": MLP, "vgg": vgg, "resnet": ResNet, "transformer": Transformer, "encoder": Encoder, "grouped": Grouped,
}  # fmt: skip


def inputs_of(network: nn.Module, generator: torch.Generator, count: int = 3) -> tuple[Tensor, ...]:
    """Random inputs for one of these networks."""
    if isinstance(network, Transformer):
        return (torch.randint(0, 20, (count, 6), generator=generator),)
    shapes = {MLP: (64,), Encoder: (5, 7), Grouped: (3, 6, 6)}
    return (torch.randn(count, *shapes.get(type(network), (3, 8, 8)), generator=generator),)


def settle(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Gives biases and normalisation layers values like those after training, which fresh ones do not have."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=generator) * 0.5
                tensor.add_(noise if name.endswith(("running_var", "weight")) else noise - 0.25)
    return network.eval()


def drawn(make: Callable[[], nn.Module], seed: int) -> tuple[nn.Module, Symmetry, torch.Generator]:
    """A network with weights of its own, its symmetry, and the generator that made them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = settle(make(), generator)
    return network, derive(network, inputs_of(network, generator)), generator
