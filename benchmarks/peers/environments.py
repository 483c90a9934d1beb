"""The other tools, each in a virtual environment of its own: their requirements exclude each other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"


@dataclass(frozen=True, slots=True)
class Environment:
    """A tool, what to install for it, and the modules that must then import."""

    name: str
    requirements: tuple[str, ...]
    module: str


MERGEKIT = Environment("mergekit", ("mergekit==0.1.5",), "mergekit")
# FusionBench 0.2.33 does not import with transformers 5, which its metadata allows.
FUSION_BENCH = Environment("fusion_bench", ("fusion_bench==0.2.33", "transformers>=4.57,<4.58"), "fusion_bench")


def install(environment: Environment, root: Path, torch_index: str | None) -> Path:
    """Create ``root/NAME`` and return its Python. Idempotence: a finished environment is used as it is.

    torch comes first and alone, from ``torch_index`` when given; a resolution that would bring CUDA libraries
    is refused before anything is downloaded. RuntimeError: that, or pip failed (with its last lines).
    """
    directory = root / environment.name
    python = directory / "bin" / "python"
    stamp = directory / "installed.json"
    wanted = [TORCH, *environment.requirements]
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return python
    _run([sys.executable, "-m", "venv", "--clear", str(directory)])
    index = ["--index-url", torch_index] if torch_index else []
    _refuse_cuda(python, directory, [*index, TORCH])
    _pip(python, [*index, TORCH])
    constraints = directory / "constraints.txt"
    constraints.write_text(TORCH + "\n")
    rest = ["-c", str(constraints), *environment.requirements]
    _refuse_cuda(python, directory, rest)
    _pip(python, rest)
    _run([str(python), "-c", f"import {environment.module}"])
    stamp.write_text(json.dumps(wanted))
    return python


def versions(python: Path) -> dict[str, str]:
    """Installed distributions by name, those that a reader needs to reproduce the numbers."""
    listed = json.loads(_run([str(python), "-m", "pip", "list", "--format=json"]))
    shown = {"mergekit", "fusion-bench", "fusion_bench", "torch", "transformers", "safetensors", "numpy"}
    return {entry["name"]: entry["version"] for entry in listed if entry["name"].lower() in shown}


def _refuse_cuda(python: Path, directory: Path, arguments: Sequence[str]) -> None:
    report = directory / "resolution.json"
    _pip(python, ["--dry-run", "--report", str(report), *arguments])
    names = [entry["metadata"]["name"] for entry in json.loads(report.read_text())["install"]]
    cuda = [name for name in names if name.startswith(("nvidia-", "cuda-", "triton"))]
    if cuda:
        raise RuntimeError(f"{arguments} would install {', '.join(cuda)}; give --torch-index with CPU wheels")


def _pip(python: Path, arguments: Sequence[str]) -> None:
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n" + "\n".join(done.stderr.splitlines()[-15:]))
    return done.stdout
