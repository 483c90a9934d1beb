"""Side-cars of an expert, made of rows that it was trained on: what Fisher merging and RegMean need beyond weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertModel

from benchmarks.quality.encoder import embed, load_encoder, load_tokenizer, tokenise
from benchmarks.quality.experts import Expert
from benchmarks.quality.tasks import load_task
from benchmarks.quality.training import TEMPERATURE, prototypes

GRAM_ROWS = 256
FISHER_ROWS = 64
BATCH = 64


def with_side_cars(work: Path, expert: Expert) -> Path:
    """A directory like the expert's with a Gram and a Fisher file in it; the weights are linked, not copied.

    In a directory of their own, the experts' checkpoints stay what any reader of safetensors expects.
    Durability: the directory appears whole. Idempotence: an existing one is kept.
    """
    target = work / "side-cars" / expert.setting.name / expert.name
    if target.exists():
        return target
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(expert.checkpoint(work), staging, copy_function=os.link)
    model, task = load_encoder(expert.checkpoint(work)), load_task(expert.task)
    tokenizer = load_tokenizer(work / "base")
    seen = task.shard(expert.shard, expert.setting.shards)[: expert.setting.recipe.rows]
    tokens = tokenise(tokenizer, [text for text, _ in seen[:GRAM_ROWS]])
    chosen = task.prototype_rows()
    texts, labels = tokenise(tokenizer, [text for text, _ in chosen]), [label for _, label in chosen]
    head = prototypes(load_encoder(work / "base"), texts, labels)
    save_file(grams(model, tokens), staging / "model.gram.safetensors")
    save_file(fishers(model, head, tokens[:FISHER_ROWS]), staging / "model.fisher.safetensors")
    try:
        staging.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(staging)  # another process was faster
    return target


def grams(model: BertModel, tokens: Sequence[list[int]]) -> dict[str, Tensor]:
    """Sum of outer products of what each linear layer saw, (d_in, d_in), under the name of its weight.

    Texts of one length share a batch, so that no padding is counted.
    """
    found: dict[str, Tensor] = {}

    def watch(name: str, module: torch.nn.Linear) -> torch.utils.hooks.RemovableHandle:
        def add(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
            found[name] = found.get(name, 0) + rows.T @ rows

        return module.register_forward_pre_hook(add)

    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    handles = [watch(f"{name}.weight", module) for name, module in linear]
    with torch.inference_mode():
        for length in sorted({len(text) for text in tokens}):
            same = [text for text in tokens if len(text) == length]
            for start in range(0, len(same), BATCH):
                embed(model, same[start : start + BATCH])
    for handle in handles:
        handle.remove()
    return {name: (gram + gram.T) / 2 for name, gram in found.items()}


def fishers(model: BertModel, head: Tensor, tokens: Sequence[list[int]]) -> dict[str, Tensor]:
    """Diagonal Fisher of every tuned tensor: mean squared gradient of the log-likelihood, one text at a time.

    Classes are drawn from the model's own prediction, with a fixed seed: no label is used.
    """
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    squares: dict[str, Tensor] = {}
    for text in tokens:
        logits = TEMPERATURE * embed(model, [text]) @ head.T
        label = torch.multinomial(logits.detach().softmax(1), 1, generator=draw)[0]
        model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits, label).backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                squares[name] = squares.get(name, 0) + weight.grad.square() / len(tokens)
    return squares
