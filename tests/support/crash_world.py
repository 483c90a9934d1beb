"""A tiny world for fault tests: a base of two files, contributions of every outcome, and a node's own directories.

Everything is made from fixed seeds; time stamps are pinned so that revisions are equal in every copy of the world.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

STAMP = 1_700_000_000
SHAPES: dict[str, tuple[int, ...]] = {
    "embed.weight": (12, 8),
    "layers.0.proj.weight": (8, 8),
    "layers.0.norm.weight": (8,),
    "layers.1.proj.weight": (8, 8),
    "head.weight": (12, 8),
}
FILES = {
    "model-00001-of-00002.safetensors": ("embed.weight", "layers.0.proj.weight", "layers.0.norm.weight"),
    "model-00002-of-00002.safetensors": ("layers.1.proj.weight", "head.weight"),
}
SHARD_BYTES = 700
"""With this bound the statistics of the base above lie in two shards."""


def base_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def tuned_tensors(seed: int) -> dict[str, np.ndarray]:
    """The base with a small update of every tensor."""
    rng = np.random.default_rng(seed)
    return {
        name: tensor + 0.05 * rng.standard_normal(tensor.shape).astype(np.float32)
        for name, tensor in base_tensors().items()
    }


def pin(path: Path, stamp: int = STAMP) -> None:
    """Give every file below ``path`` the same modification time."""
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(file, (stamp, stamp))


def write_base(path: Path) -> Path:
    path.mkdir(parents=True)
    tensors = base_tensors()
    for file, names in FILES.items():
        save_file({name: tensors[name] for name in names}, path / file, {"format": "pt"})
    homes = {name: file for file, names in FILES.items() for name in names}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    (path / "config.json").write_text('{"tie_word_embeddings": false}')
    (path / "tokenizer.json").write_text('{"version": "1.0"}')
    pin(path)
    return path


def write_dense(path: Path, seed: int) -> Path:
    path.mkdir(parents=True)
    save_file(tuned_tensors(seed), path / "model.safetensors", {"format": "pt"})
    pin(path)
    return path


def write_adapter(path: Path, seed: int) -> Path:
    """A LoRA of one module: the shards of all other tensors are carried over."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    stem = "base_model.model.layers.1.proj"
    shapes = {f"{stem}.lora_A.weight": (2, 8), f"{stem}.lora_B.weight": (8, 2)}
    factors = {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    save_file(factors, path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["proj"], "bias": "none"}
    (path / "adapter_config.json").write_text(json.dumps(config))
    pin(path)
    return path


def write_bad(path: Path, seed: int) -> Path:
    """Finite up to its very last tensor, so that shards are finished before it is rejected."""
    path.mkdir(parents=True)
    tensors = tuned_tensors(seed)
    tensors["head.weight"][-1, -1] = np.nan
    save_file(tensors, path / "model.safetensors")
    pin(path)
    return path


@dataclass(frozen=True)
class World:
    """What a node is pointed at: read only, shared by all sites of a test."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base"

    def registry(self, name: str) -> Path:
        return self.root / "registries" / name

    @property
    def requested(self) -> Path:
        """A contribution that lies in no registry: it is asked for."""
        return self.root / "elsewhere" / "f-asked"


REGISTRIES = {
    "one": ("a-dense",),
    "two": ("b-adapter", "c-bad", "d-copy"),
    "three": ("e-dense",),
}
"""What lies where: one more registry per part of the story."""

GOOD = ("f-asked", "a-dense", "b-adapter", "e-dense")
"""In the order in which a node that gets one registry after another folds them; the request comes first."""


def make_world(root: Path) -> World:
    """Good contributions (one an adapter, one asked for by a request), a bad one and a copy of the first."""
    world = World(root)
    write_base(world.base)
    write_dense(world.requested, 5)
    write_dense(world.registry("one") / "a-dense", 1)
    write_adapter(world.registry("two") / "b-adapter", 2)
    write_bad(world.registry("two") / "c-bad", 3)
    shutil.copytree(world.registry("one") / "a-dense", world.registry("two") / "d-copy")
    write_dense(world.registry("three") / "e-dense", 4)
    return world


@dataclass(frozen=True)
class Site:
    """One node's own directories and its settings file."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def published(self) -> Path:
        return self.root / "published"

    @property
    def config(self) -> Path:
        return self.root / "node.yaml"


def make_site(root: Path, world: World, registries: Iterable[str] = (), **options: Any) -> Site:
    """An empty node, asked to fold ``world.requested``; see ``configure``."""
    site = Site(root)
    root.mkdir(parents=True)
    configure(site, world, registries, **options)
    ask_for(site, world.requested)
    return site


def configure(
    site: Site, world: World, registries: Iterable[str], *, name: str = "node", keep: int = 2, threads: int = 1,
    every: int = 1, method: Mapping[str, Any] | None = None, snapshots: Mapping[str, int] | None = None,
    gates: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write the settings file: these registries of the world, everything complete as soon as it is listed."""
    settings = {
        "node": {"name": name, "state": str(site.state)},
        "base": str(world.base),
        "method": dict(method or {"name": "opcm"}),
        "registries": [
            {"url": str(world.registry(name)), "settle_seconds": 0, "settle_polls": 1, "poll_seconds": 5}
            for name in registries
        ],
        "publish": {"path": str(site.published), "keep": keep, "every": {"contributions": every}},
        "engine": {"threads": threads, "device": "cpu"},
        "http": {"listen": None},
        "snapshots": dict(snapshots or {}),
        "gates": dict(gates or {}),
    }
    site.config.write_text(json.dumps(settings))


def ask_for(site: Site, path: Path) -> None:
    """A request file as ``mergenode ingest`` leaves it."""
    folder = site.state / "requests"
    folder.mkdir(parents=True, exist_ok=True)
    document = {"path": str(path), "time": "2024-01-01T00:00:00Z"}
    (folder / "00000000000000000001-00000000.json").write_text(json.dumps(document))
