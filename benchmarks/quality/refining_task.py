"""The task plug-in with which the benchmark refines merges: the encoder, made-up texts, the frozen heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BertModel

from benchmarks.quality.encoder import embed, load_tokenizer, packaged_encoder, packaged_model, tokenise
from benchmarks.quality.probes import made_up_texts
from benchmarks.quality.tasks import TASKS, load_task
from benchmarks.quality.training import prototypes

TEXTS = 24_000
BATCH = 32


class Task:
    """Knows the heads, which belong to the experts and were fixed before they were trained. Reads no other row."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._base = packaged_encoder()
        self._texts: list[list[int]] = []

    def build_model(self) -> BertModel:
        return packaged_encoder()

    def probes(self) -> list[list[list[int]]]:
        if not self._texts:  # minutes, for every expert in the same process
            words = self._base.embeddings.word_embeddings.weight.detach()
            self._texts = made_up_texts(words, TEXTS, seed=0)
        return [self._texts[start : start + BATCH] for start in range(0, TEXTS, BATCH)]

    def outputs(self, model: BertModel, batch: Sequence[list[int]]) -> Tensor:
        """In two halves by length: short texts are not padded to the longest."""
        order = sorted(range(len(batch)), key=lambda number: len(batch[number]))
        half = len(order) // 2
        with torch.autocast("cpu", torch.bfloat16):
            parts = [embed(model, [batch[number] for number in part]) for part in (order[:half], order[half:]) if part]
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def head(self, contribution: str) -> Tensor | None:
        """``contribution``: name of an expert, its task first."""
        name = contribution.split("-", maxsplit=1)[0]
        if name not in TASKS:
            return None
        rows = load_task(name).prototype_rows()
        tokens = tokenise(load_tokenizer(packaged_model()), [text for text, _ in rows])
        return prototypes(self._base, tokens, [label for _, label in rows])
