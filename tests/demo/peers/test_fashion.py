"""The images that are there, and how they are dealt."""

from __future__ import annotations

import pytest
import torch

from mergenode.demo.peers.fashion import LEAST, SPLITS, Fashion, deal


def test_the_images_are_whole(fashion: Fashion) -> None:
    for part, count in ((fashion.training, 10_000), (fashion.test, 2_000)):
        assert part.images.shape == (count, 1, 28, 28)
        assert 0.0 <= float(part.images.min()) < float(part.images.max()) <= 1.0
        assert torch.bincount(part.labels, minlength=10).min() > count / 12


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_image_belongs_to_one_node(fashion: Fashion, split: str, seed: int) -> None:
    dealt = deal(split, fashion.training.labels, 5, seed)
    assert torch.equal(torch.cat(dealt).sort().values, torch.arange(10_000))
    assert min(len(places) for places in dealt) >= LEAST
    again = deal(split, fashion.training.labels, 5, seed)
    assert all(torch.equal(one, other) for one, other in zip(dealt, again, strict=True))


def test_what_each_split_is_about(fashion: Fashion) -> None:
    def classes(split: str) -> list[torch.Tensor]:
        labels = fashion.training.labels
        return [torch.bincount(labels[places], minlength=10) for places in deal(split, labels, 5, 3)]

    assert all(counts.min() > 150 for counts in classes("iid"))
    assert all(int((counts > 0).sum()) == 2 for counts in classes("classes"))
    skewed = classes("dirichlet")
    assert max(float(counts.max() / counts.sum()) for counts in skewed) > 0.3
    assert sum(counts.sum() for counts in skewed) == 10_000


def test_an_unknown_split_is_told(fashion: Fashion) -> None:
    with pytest.raises(KeyError, match="alphabetical"):
        deal("alphabetical", fashion.training.labels, 5, 0)
