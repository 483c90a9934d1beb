"""Made-up inputs for a text encoder: handfuls of words about one thing, from nothing but its vocabulary."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

FIRST_WORD = 1996
"""The first whole word of the vocabulary, common words first; special tokens and single characters come before."""

FIRST, LAST = 101, 102
LENGTHS = (1, 2, 4, 8, 12, 20, 30, 30, 30)
MIXTURES = (0.3, 0.6, 0.9)
NEIGHBOURS = 100
"""Words nearest to the one that a text is about, by the cosine of their embeddings."""


def made_up_texts(embeddings: Tensor, count: int, seed: int) -> list[list[int]]:
    """Token numbers of ``count`` texts. ``embeddings``: of the vocabulary, (words, width).

    Every text is about one word drawn at random: a share of its tokens are neighbours of that word, the others are
    drawn as in real text, where a word's frequency falls with its rank.
    """
    draw = random.Random(seed)
    words = torch.nn.functional.normalize(embeddings[FIRST_WORD:].float(), dim=1)
    return [[FIRST, *_words(draw, words), LAST] for _ in range(count)]


def _words(draw: random.Random, words: Tensor) -> Sequence[int]:
    length, share = draw.choice(LENGTHS), draw.choice(MIXTURES)
    about = draw.randrange(len(words))
    near = (words @ words[about]).topk(NEIGHBOURS).indices.tolist()
    return [
        FIRST_WORD + (draw.choice(near) if draw.random() < share else _common(draw, len(words))) for _ in range(length)
    ]


def _common(draw: random.Random, words: int) -> int:
    """A rank, as likely as its reciprocal."""
    return min(words - 1, int(words ** draw.random()) - 1)
