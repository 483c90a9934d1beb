"""One expert: the base fine-tuned on one task towards a frozen head of class prototypes."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertModel

from benchmarks.quality.encoder import CONFIG_FILES, embed, embed_all, load_encoder, load_tokenizer, tokenise
from benchmarks.quality.tasks import Row, Task

LEARNING_RATE = 1.5e-4
BATCH = 16
TEMPERATURE = 20.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long an expert is trained: at most ``rows`` training rows, seen ``epochs`` times."""

    rows: int
    epochs: int


def prototypes(base: BertModel, tokens: Sequence[list[int]], classes: Sequence[int]) -> Tensor:
    """Unit-length mean embedding of each class under the base model, shape (classes, width)."""
    embedded = embed_all(base, tokens)
    labels = torch.tensor(classes)
    means = torch.stack([embedded[labels == label].mean(0) for label in range(max(classes) + 1)])
    return torch.nn.functional.normalize(means, dim=1)


def train_expert(base: Path, task: Task, rows: Sequence[Row], recipe: Recipe, seed: int, target: Path) -> None:
    """Fine-tune ``base`` on ``rows`` and write a checkpoint directory. One thread; the same inputs, the same bytes.

    All weights are tuned but the word embeddings; the head (class prototypes of the base, cosine times 20) is fixed,
    so that every model of the task is scored with the same head. AdamW, rate falling linearly to zero, bf16 autocast,
    no dropout.
    Durability: ``target`` appears whole. Idempotence: an existing one is kept.
    """
    if target.exists():
        return
    tokenizer = load_tokenizer(base)
    model = load_encoder(base)
    chosen = task.prototype_rows()
    head = prototypes(model, tokenise(tokenizer, [text for text, _ in chosen]), [label for _, label in chosen])
    tokens = tokenise(tokenizer, [text for text, _ in rows[: recipe.rows]])
    labels = [label for _, label in rows[: recipe.rows]]
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    _fit(model, head, tokens, labels, recipe.epochs, seed)
    _save(model, base, target)


def _fit(
    model: BertModel, head: Tensor, tokens: Sequence[list[int]], labels: Sequence[int], epochs: int, seed: int
) -> None:
    tuned = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(tuned, lr=LEARNING_RATE)
    steps = epochs * -(-len(tokens) // BATCH)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1.0, end_factor=0.0, total_iters=steps)
    order = list(range(len(tokens)))
    draw = random.Random(seed)
    for _ in range(epochs):
        draw.shuffle(order)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            with torch.autocast("cpu", torch.bfloat16):
                embedded = embed(model, [tokens[index] for index in batch])
            loss = torch.nn.functional.cross_entropy(
                TEMPERATURE * embedded @ head.T, torch.tensor([labels[index] for index in batch])
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            decay.step()


def _save(model: BertModel, base: Path, target: Path) -> None:
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for name in CONFIG_FILES:
        shutil.copyfile(base / name, staging / name)
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, staging / "model.safetensors", metadata={"format": "pt"})
    staging.rename(target)
