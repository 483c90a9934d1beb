"""What lies on the volumes of the pod: a base, and fine-tunes of it that are marked as complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.registries.marker import write_marker
from tests.deploy.pod.pod import Pod
from tests.support.checkpoints import base_tensors, finetuned, write_single

Tensors = Mapping[str, torch.Tensor]
SMALL = base_tensors()


def matrices(count: int, side: int) -> Tensors:
    """A model whose fold takes a while: so many square matrices that ``opcm`` decomposes."""
    draw = torch.Generator().manual_seed(0)
    names = [f"model.layers.{number}.self_attn.q_proj.weight" for number in range(count)]
    return {name: torch.randn(side, side, generator=draw).mul_(0.05) for name in names}


def offer_base(pod: Pod, tensors: Tensors = SMALL) -> None:
    give(pod, write_single(pod.base, tensors))


def offer(pod: Pod, name: str, seed: int, tensors: Tensors = SMALL) -> None:
    """Marked, copied under a hidden name, renamed into place: it is taken at once."""
    with tempfile.TemporaryDirectory() as folder:
        marked = write_single(Path(folder, name), finetuned(tensors, seed=seed))
        write_marker(marked, content=content_digest(marked))
        staged = shutil.copytree(marked, pod.inbox / f".{name}.part")
    give(pod, staged)
    staged.rename(pod.inbox / name)


def give(pod: Pod, folder: Path) -> None:
    """As the loader pod of deploy/examples would have written it: by the user of the nodes."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, pod.user, pod.fs_group)
