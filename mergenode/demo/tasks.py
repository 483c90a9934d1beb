"""The tasks of the demo: six fields of one paper form, filled in and scanned under different conditions.

A form of 24x24 pixels has nine fields of 8x8. The base model reads clean digits in the middle field; every team
fine-tunes it for a field of its own. The ten labels stay, so that one network with one output head can serve all
fields at once: what merging promises. The digits are the real ones that ship inside scikit-learn (1,797 images of
8x8 pixels, written by 43 people); nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mergenode.errors import UsageError

FIELD = 8
FORM = 3 * FIELD
TEST_SHARE = 0.3
SPLIT_SEED = 20

Condition = Callable[[Tensor], Tensor]
"""Digits ``[n, 8, 8]`` in [0, 1] to digits of the same shape and range; never in place."""


@dataclass(frozen=True, slots=True)
class Task:
    """One field of the form: where it lies (row and column, 0 to 2) and how its digits look."""

    name: str
    story: str
    row: int
    column: int
    condition: Condition

    def forms(self, digits: Tensor) -> Tensor:
        """Forms ``[n, 24, 24]`` with these digits ``[n, 8, 8]`` in this field, the other fields empty."""
        forms = torch.zeros(len(digits), FORM, FORM)
        top, left = self.row * FIELD, self.column * FIELD
        forms[:, top : top + FIELD, left : left + FIELD] = self.condition(digits)
        return forms


@dataclass(frozen=True, slots=True)
class Digits:
    """Images ``[n, 8, 8]`` float32 in [0, 1] and labels ``[n]`` int64, split once for everybody."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_digits_split() -> Digits:
    """The bundled digits, shuffled with a fixed seed and split 70/30.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra, needed by the demo alone
    except ImportError as error:
        raise missing_extra("scikit-learn") from error
    bundled = load_digits()
    images = torch.from_numpy(bundled.images).to(torch.float32) / 16.0
    labels = torch.from_numpy(bundled.target).to(torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    cut = int(len(labels) * (1 - TEST_SHARE))
    train, test = order[:cut], order[cut:]
    return Digits(images[train], labels[train], images[test], labels[test])


def missing_extra(package: str) -> UsageError:
    """The error for a package of the ``[demo]`` extra that is not installed."""
    return UsageError(
        f"the demo needs {package}, which is not installed",
        hint='install the extra: pip install "mergenode[demo]"',
    )


def clean(digits: Tensor) -> Tensor:
    return digits.clone()


def tilted(digits: Tensor) -> Tensor:
    return _affine(digits, [[0.7071, -0.7071, 0.0], [0.7071, 0.7071, 0.0]])


def slanted(digits: Tensor) -> Tensor:
    return _affine(digits, [[1.0, 0.8, 0.0], [0.0, 1.0, 0.0]])


def photocopied(digits: Tensor) -> Tensor:
    """Black or white, nothing between."""
    return (digits > 0.3).to(digits.dtype)


def stained(digits: Tensor) -> Tensor:
    """A blot covers the middle of the digit."""
    spoiled = digits.clone()
    spoiled[:, 2:5, 2:5] = 0.0
    return spoiled


def negative(digits: Tensor) -> Tensor:
    return 1.0 - digits


def _affine(digits: Tensor, matrix: list[list[float]]) -> Tensor:
    """Resample by a 2x3 affine map, bilinear, zero outside."""
    shape = [len(digits), 1, FIELD, FIELD]
    grid = functional.affine_grid(torch.tensor(matrix).expand(len(digits), 2, 3), shape, align_corners=False)
    return functional.grid_sample(digits.unsqueeze(1), grid, align_corners=False).squeeze(1).clamp(0.0, 1.0)


HOME = Task("home", "clean digits in the middle: what the base was trained on", 1, 1, clean)

TASKS: tuple[Task, ...] = (
    Task("tilted", "top left, turned by 45 degrees", 0, 0, tilted),
    Task("slanted", "top, leaning sideways", 0, 1, slanted),
    Task("copied", "top right, photocopied to black and white", 0, 2, photocopied),
    Task("clean", "bottom left, clean", 2, 0, clean),
    Task("stained", "bottom, with a blot over the middle", 2, 1, stained),
    Task("negative", "bottom right, white on black", 2, 2, negative),
)
