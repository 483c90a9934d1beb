"""The objective: mean cross-entropy of labelled training rows of the target tasks, each with its frozen head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertModel

from benchmarks.quality.encoder import embed, load_encoder, load_tokenizer, load_weights, tokenise
from benchmarks.quality.tasks import Row, load_task, shuffled
from benchmarks.quality.training import TEMPERATURE, prototypes
from benchmarks.selection.suite import TARGETS
from benchmarks.selection.vectors import FROZEN, Space, Weights

ROWS = 100
BATCH = 25
FIRST_DRAW = 1000


@dataclass(frozen=True, slots=True)
class _TaskRows:
    head: Tensor
    batches: list[tuple[list[list[int]], Tensor]]


class Probe:
    """100 training rows of each target, drawn by ``seed``, never a test row. One thread, bf16 autocast.

    ``given``: other rows than those, by task.
    """

    def __init__(
        self,
        base: Path,
        seed: int,
        tasks: Sequence[str] = TARGETS,
        rows: int = ROWS,
        given: Mapping[str, Sequence[Row]] | None = None,
    ) -> None:
        torch.set_num_threads(1)
        self._model = load_encoder(base)
        self._model.embeddings.word_embeddings.weight.requires_grad_(False)
        tokenizer = load_tokenizer(base)
        self._tasks = {}
        for name in tasks:
            task = load_task(name)
            chosen = task.prototype_rows()
            head = prototypes(self._model, tokenise(tokenizer, [text for text, _ in chosen]), [y for _, y in chosen])
            drawn = given[name] if given else shuffled(task.train, seed=FIRST_DRAW + seed)[:rows]
            tokens = tokenise(tokenizer, [text for text, _ in drawn])
            self._tasks[name] = _TaskRows(head, _batches(tokens, [label for _, label in drawn]))

    def gradient(self, weights: Weights, space: Space) -> tuple[dict[str, float], Tensor]:
        """Mean loss of each task, and the flat gradient of their mean, at a model."""
        model = self._loaded(weights)
        model.zero_grad(set_to_none=True)
        losses = {name: self._loss(rows, backward=True) for name, rows in self._tasks.items()}
        found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        assert FROZEN not in found
        return losses, space.flatten(found)

    def losses(self, weights: Weights) -> dict[str, float]:
        """Mean loss of each task at a model."""
        self._loaded(weights)
        with torch.inference_mode():
            return {name: self._loss(rows, backward=False) for name, rows in self._tasks.items()}

    def accuracies(self, weights: Weights) -> dict[str, float]:
        """Share of the rows of each task that a model classifies as labelled."""
        model = self._loaded(weights)
        found = {}
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for name, rows in self._tasks.items():
                hits = [
                    int(((embed(model, tokens).float() @ rows.head.T).argmax(1) == labels).sum())
                    for tokens, labels in rows.batches
                ]
                found[name] = sum(hits) / sum(len(labels) for _, labels in rows.batches)
        return found

    def _loaded(self, weights: Weights) -> BertModel:
        load_weights(self._model, weights)
        return self._model

    def _loss(self, rows: _TaskRows, *, backward: bool) -> float:
        count = sum(len(labels) for _, labels in rows.batches)
        total = 0.0
        for tokens, labels in rows.batches:
            with torch.autocast("cpu", torch.bfloat16):
                embedded = embed(self._model, tokens)
            loss = torch.nn.functional.cross_entropy(TEMPERATURE * embedded @ rows.head.T, labels, reduction="sum")
            if backward:
                (loss / (count * len(self._tasks))).backward()
            total += loss.item()
        return total / count


def _batches(tokens: list[list[int]], labels: list[int]) -> list[tuple[list[list[int]], Tensor]]:
    """Rows of similar length together: less padding."""
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [([tokens[row] for row in part], torch.tensor([labels[row] for row in part])) for part in parts]
