"""What is run against what: one merge of the same checkpoints by each tool, as a command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SCALE = 0.3  # of task arithmetic
DENSITY = 0.2  # of TIES
ALPHA = 0.5  # of OPCM
_SHARDS = ("--out-shard-size", "100M")


@dataclass(frozen=True, slots=True)
class Suite:
    """The checkpoints to merge: ``base`` and its fine-tunes in order."""

    base: Path
    models: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tool's way to do a merge. ``options`` are added to its command line."""

    tool: str
    label: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """At most this share of the named peer entry's CPU seconds and peak RSS."""

    peer: str
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Contest:
    """Entries that answer the same question; the first is ours when there is one of ours."""

    method: str
    entries: tuple[Entry, ...]
    targets: tuple[Target, ...] = field(default=())


CONTESTS = (
    Contest(
        "average",
        (
            Entry("mergenode", "mergenode average"),
            Entry("mergekit", "mergekit linear"),
            Entry("mergekit", "mergekit linear, 100M shards", _SHARDS),
        ),
        (Target("mergekit linear", 1.0, 0.5), Target("mergekit linear, 100M shards", 1.0, 0.5)),
    ),
    Contest(
        "task_arithmetic",
        (
            Entry("mergenode", "mergenode task_arithmetic", ("--set", f"scale={SCALE}")),
            Entry("mergekit", "mergekit task_arithmetic"),
            Entry("mergekit", "mergekit task_arithmetic, 100M shards", _SHARDS),
        ),
    ),
    Contest(
        "opcm",
        (
            Entry("mergenode", "mergenode opcm", ("--set", f"alpha={ALPHA}")),
            Entry("fusion_bench", "FusionBench OPCM"),
            Entry(
                "mergenode",
                "mergenode opcm, diagonal",
                ("--set", f"alpha={ALPHA}", "--set", "variant=diagonal"),
            ),
        ),
        (Target("FusionBench OPCM", 0.35, 0.25),),
    ),
    Contest(
        "ties",
        (
            Entry("mergekit", "mergekit ties"),
            Entry("mergekit", "mergekit ties, 100M shards", _SHARDS),
        ),
    ),
)

_MERGEKIT_METHODS = {"average": "linear", "task_arithmetic": "task_arithmetic", "ties": "ties"}


def mergenode_command(
    program: Sequence[str], method: str, options: Sequence[str], suite: Suite, output: Path
) -> list[str]:
    """``mergenode merge`` of the suite, in order. ``program`` is what starts mergenode."""
    return [
        *program, "merge", "--base", str(suite.base), "--output", str(output), "--method", method, *options,
        *map(str, suite.models),
    ]  # fmt: skip


def mergekit_command(python: Path, method: str, entry: Entry, suite: Suite, output: Path) -> list[str]:
    """``mergekit-yaml`` of the suite; writes its configuration beside ``output``. JSON is YAML enough."""
    config = output.with_suffix(".mergekit.yaml")
    config.write_text(json.dumps(mergekit_config(method, suite), indent=2))
    program = str(python.parent / "mergekit-yaml")
    return [program, str(config), str(output), "--no-copy-tokenizer", "-j", "1", *entry.options]


def mergekit_config(method: str, suite: Suite) -> dict[str, object]:
    """A merge in mergekit's terms: bf16 arithmetic and output, as its examples have it."""
    per_model = {
        "average": {"weight": 1.0},
        "task_arithmetic": {"weight": SCALE},
        "ties": {"weight": SCALE, "density": DENSITY},
    }[method]
    config: dict[str, object] = {
        "merge_method": _MERGEKIT_METHODS[method],
        "models": [{"model": str(model), "parameters": per_model} for model in suite.models],
        "dtype": "bfloat16",
    }
    if method != "average":
        config["base_model"] = str(suite.base)
        config["parameters"] = {"normalize": False}
    return config


def fusion_bench_command(python: Path, suite: Suite, output: Path) -> list[str]:
    """FusionBench's OPCM of the suite, in order, by the driver script beside this file."""
    driver = Path(__file__).with_name("fusion_bench_opcm.py")
    return [str(python), str(driver), str(ALPHA), str(output), str(suite.base), *map(str, suite.models)]
