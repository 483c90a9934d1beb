"""What belongs to a model besides its weights: configuration, tokenizer, chat template, remote code."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.errors import FatalError

MAX_SIDE_FILE_BYTES = 256 << 20
"""The largest vocabularies known are a tenth of this; a larger file is no side file but somebody's data."""
MAX_SIDE_FILES = 1000
_MAX_DEPTH = 3

_WEIGHT_SUFFIXES = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack", ".onnx",
    ".onnx_data", ".gguf", ".ggml", ".tflite", ".ot", ".npz", ".npy", ".mlmodel", ".index.json",
)  # fmt: skip
_OURS = ("readme.md", "mergenode.json", "mergenode.commit.json", "mergenode.sig.json")


def side_files(base_dir: Path) -> list[Path]:
    """Every file of the base that a published version carries along, sorted; each lies under ``base_dir``.

    Left out: weights in any format and their indices, hidden names (``.git`` too), files that are written anew for
    every version (model card, manifests), anything that is no regular file, and links that lead out of the base
    (``trusted_root``). Subdirectories are searched three levels deep. A bare weight file has no side files.

    Raises:
        FatalError: a file is larger than ``MAX_SIDE_FILE_BYTES``, or there are more than ``MAX_SIDE_FILES``: leaving
            one out silently could publish a model that does not load.
    """
    if not base_dir.is_dir():
        return []
    root = trusted_root(base_dir)
    found: list[Path] = []
    for path in _walk(base_dir, _MAX_DEPTH):
        name = path.name.lower()
        if name.endswith(_WEIGHT_SUFFIXES) or name in _OURS or not _inside(path, root):
            continue
        try:
            status = path.stat()
        except OSError:
            continue  # a link to nothing
        if not stat.S_ISREG(status.st_mode):
            continue
        if status.st_size > MAX_SIDE_FILE_BYTES:
            raise _too_much(f"{path}: has {status.st_size} bytes, side files have at most {MAX_SIDE_FILE_BYTES}")
        found.append(path)
        if len(found) > MAX_SIDE_FILES:
            raise _too_much(f"{base_dir}: has more than {MAX_SIDE_FILES} files besides its weights")
    return sorted(found)


def _walk(directory: Path, depth: int) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = directory / entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield path
            elif depth:
                yield from _walk(path, depth - 1)


def _inside(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def _too_much(message: str) -> FatalError:
    return FatalError(message, hint="Every version carries a copy: move what is not part of the model elsewhere.")
