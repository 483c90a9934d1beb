"""Three real nodes fold different contributions and publish the same model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mergenode.demo.node import NodeProcess
from mergenode.demo.peers.fashion import Fashion, Images, deal
from mergenode.demo.peers.network import Recipe, accuracy, build, train
from mergenode.demo.peers.nodes import Fleet, Member
from mergenode.demo.peers.results import PeersResults
from mergenode.demo.report import Report

NODES = 3
BASE_IMAGES = 1000
RECIPE = Recipe(rate=5e-4)
BASE_RECIPE = Recipe(first_passes=1)
PATIENCE_SECONDS = 120.0


def edges() -> list[list[int]]:
    """A line: the nodes at its ends hear of each other through the one in the middle alone."""
    return [[1], [0, 2], [1]]


class Teams:
    """A base and one fine-tune for each node, on images of its own."""

    def __init__(self, fashion: Fashion, seed: int) -> None:
        self.test, self.recipe = fashion.test, RECIPE
        rest = fashion.training.part(torch.arange(BASE_IMAGES, len(fashion.training.labels)))
        self.base = build(RECIPE.width, seed)
        train(self.base, fashion.training.first(BASE_IMAGES), BASE_RECIPE, 0, seed)
        self.tuned = [self._tuned(rest.part(places), place) for place, places in enumerate(self._deal(rest, seed))]

    @staticmethod
    def _deal(images: Images, seed: int) -> list[torch.Tensor]:
        return deal("iid", images.labels, NODES, seed)

    def _tuned(self, images: Images, seed: int) -> nn.Module:
        network = build(RECIPE.width, 0)
        network.load_state_dict(self.base.state_dict())
        train(network, images, RECIPE, 0, seed)
        return network

    def score(self, directory: Path) -> float:
        """Accuracy of a published checkpoint, read as any program would read it."""
        network = build(RECIPE.width, 0)
        network.load_state_dict(load_file(directory / "model.safetensors"))
        return accuracy(network, self.test)


def write_checkpoint(directory: Path, network: nn.Module) -> Path:
    """``config.json`` and ``model.safetensors`` in a new directory, which is given back."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"architectures": ["FashionNetwork"]}\n', encoding="utf-8")
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


def play_union(fleet: Fleet, teams: Teams, report: Report, results: PeersResults) -> None:
    """Start the nodes, push one fine-tune to each, wait until all have published all three, compare.

    Raises:
        FatalError: a node ended, or did not publish in time.
    """
    fleet.start()
    for member, network in zip(fleet.members, teams.tuned, strict=True):
        results.contribution_accuracies.append(accuracy(network, teams.test))
        hidden = write_checkpoint(member.process.directory / "inbox" / ".arriving", network)
        hidden.rename(hidden.with_name(f"team-{member.name}"))
        report.say(f"{member.name} folds team-{member.name} ({100 * results.contribution_accuracies[-1]:.1f} %)")
    for member in fleet.members:
        results.digests[member.name] = model_digest(_published(member.process))
        report.say(f"{member.name} publishes {results.digests[member.name]}")
    results.union_accuracy = teams.score(_latest(fleet.members[0]))
    results.exit_codes += fleet.stop()


def _published(process: NodeProcess) -> dict[str, Any]:
    return process.wait(f"publish all {NODES} contributions", lambda: whole(process), PATIENCE_SECONDS)


def whole(process: NodeProcess) -> dict[str, Any] | None:
    """The manifest of the latest version once all contributions are in it."""
    try:
        text = (process.directory / "published" / "latest" / "mergenode.json").read_text(encoding="utf-8")
    except OSError:  # nothing is published yet, or it was just replaced
        return None
    manifest: dict[str, Any] = json.loads(text)
    return manifest if manifest["count"] == NODES else None


def model_digest(manifest: dict[str, Any]) -> str:
    """Of all tensors of a version: equal where all weights are equal, bit for bit."""
    return hashlib.sha256(json.dumps(manifest["tensors"], sort_keys=True).encode()).hexdigest()


def _latest(member: Member) -> Path:
    return member.process.directory / "published" / "latest"
