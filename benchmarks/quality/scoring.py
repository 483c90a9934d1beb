"""Accuracy of a model on the tasks' test rows, kept per content digest so that nothing is scored twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.quality.encoder import embed_all, load_encoder, load_tokenizer, load_weights, tokenise
from benchmarks.quality.tasks import load_task
from benchmarks.quality.training import prototypes


@dataclass(frozen=True, slots=True)
class Score:
    """``correct`` of ``rows`` test rows."""

    correct: int
    rows: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.rows


@dataclass(frozen=True, slots=True)
class _Prepared:
    tokens: list[list[int]]
    labels: Tensor
    head: Tensor


class Scorer:
    """Scores models of one base on at most ``rows`` test rows of each task (None: all). One thread."""

    def __init__(self, work: Path, rows: int | None) -> None:
        torch.set_num_threads(1)
        self.rows = rows
        self._base = work / "base"
        self._scores = work / "scores"
        self._model = load_encoder(self._base)
        self._tokenizer = load_tokenizer(self._base)
        self._prepare = cache(self._prepared)

    def score(self, digest: str, weights: Callable[[], Mapping[str, Tensor]], tasks: Sequence[str]) -> dict[str, Score]:
        """Scores of the model with these weights, by task. ``digest`` names the weights; known scores are not repeated.

        Durability: scores appear whole. Idempotence: the same digest gives the same scores.
        """
        file = self._scores / f"{digest}-{self.rows or 'all'}.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        missing = [task for task in dict.fromkeys(tasks) if task not in known]
        if missing:
            for task in missing:  # the base as it came makes the heads: before other weights replace it
                self._prepare(task)
            load_weights(self._model, dict(weights()))
            known |= {task: self._correct(task) for task in missing}
            self._scores.mkdir(parents=True, exist_ok=True)
            private = file.with_suffix(f".{os.getpid()}")
            private.write_text(json.dumps(known, sort_keys=True))
            private.rename(file)
        return {task: Score(known[task], len(self._prepare(task).tokens)) for task in tasks}

    def _correct(self, task: str) -> int:
        prepared = self._prepare(task)
        similarity = embed_all(self._model, prepared.tokens) @ prepared.head.T
        return int((similarity.argmax(1) == prepared.labels).sum())

    def _prepared(self, name: str) -> _Prepared:
        task = load_task(name)
        rows = task.test_rows(self.rows)
        chosen = task.prototype_rows()
        head = prototypes(
            load_encoder(self._base),
            tokenise(self._tokenizer, [text for text, _ in chosen]),
            [label for _, label in chosen],
        )
        tokens = tokenise(self._tokenizer, [text for text, _ in rows])
        return _Prepared(tokens, torch.tensor([label for _, label in rows]), head)
