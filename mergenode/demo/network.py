"""The network of the demo: small enough to train in seconds, with every kind of tensor a real checkpoint has.

A convolution (patch embedding), a position table, linear layers, biases and layer norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mergenode.demo.tasks import FORM

Weights = Mapping[str, Tensor]
"""Tensors by name, float32, detached."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes; written to ``config.json`` as they are. ``image_size`` and ``patch_size`` in pixels."""

    image_size: int = FORM
    patch_size: int = 2
    patch_channels: int = 8
    hidden_size: int = 128
    intermediate_size: int = 256
    num_hidden_layers: int = 2
    num_labels: int = 10

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    def to_json(self) -> dict[str, object]:
        """The content of ``config.json``."""
        return {"architectures": ["FormReader"], "model_type": "form_reader", **asdict(self)}


class Layer(nn.Module):
    """Pre-norm residual feed-forward layer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        output: Tensor = states + self.down_proj(functional.gelu(self.up_proj(self.norm(states))))
        return output


class FormReader(nn.Module):
    """Forms ``[n, 24, 24]`` to logits ``[n, 10]``."""

    def __init__(self, config: NetworkConfig, seed: int) -> None:
        super().__init__()
        size, channels = config.patch_size, config.patch_channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.patch_embedding = nn.Conv2d(1, channels, size, stride=size, bias=False)
            # Multiplied, not added: an empty field then says nothing at all.
            self.position_embedding = nn.Embedding(config.patches, channels)
            self.mix = nn.Linear(config.patches * channels, config.hidden_size)
            self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
            self.norm = nn.LayerNorm(config.hidden_size)
            self.head = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, forms: Tensor) -> Tensor:
        patches = self.patch_embedding(forms.unsqueeze(1)).flatten(2).transpose(1, 2)
        states = self.mix((patches * self.position_embedding.weight).flatten(1))
        for layer in self.layers:
            states = layer(states)
        logits: Tensor = self.head(self.norm(states))
        return logits


def accuracy(weights: Weights, config: NetworkConfig, forms: Tensor, labels: Tensor) -> float:
    """Share of right answers in [0, 1] of the network with these weights on forms ``[n, 24, 24]``.

    Raises:
        RuntimeError: names or shapes of ``weights`` are not those of the network.
    """
    network = FormReader(config, seed=0)
    network.load_state_dict(dict(weights))
    with torch.inference_mode():
        return float((network(forms).argmax(dim=1) == labels).double().mean())
