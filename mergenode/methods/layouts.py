"""What the statistics of one weight may look like: for whoever reads statistics that another node made.

A *layout* is one complete set of statistics by name. A method declares all layouts that its folds, retractions and
combinations lead to; what fits none of them no merge of it can have produced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mergenode.types import TensorSpec


class Stored(NamedTuple):
    """One statistic. ``shape``: None stands for one number, the same wherever it occurs, at most ``most``.

    ``most`` None: the short side of the weight. ``least``: no value is smaller. ``votes``: 16-bit counts from 0 to the
    number of contributions; else the values are in accumulator dtype.
    """

    shape: tuple[int | None, ...]
    least: float | None = None
    votes: bool = False
    most: int | None = None


Layout = Mapping[str, Stored]


def accumulator_layouts(spec: TensorSpec) -> tuple[Layout, ...]:
    """Those of ``accumulator``: the weights of the first contribution, or a sum."""
    return ({"first": Stored(spec.shape)}, {"sum": Stored(spec.shape)})


def fitting(layouts: tuple[Layout, ...], shapes: Mapping[str, tuple[int, ...]], spec: TensorSpec) -> Layout | None:
    """The layout that statistics of these names and shapes have; None when they have none of them."""
    return next((layout for layout in layouts if _fits(layout, shapes, spec)), None)


def _fits(layout: Layout, shapes: Mapping[str, tuple[int, ...]], spec: TensorSpec) -> bool:
    if layout.keys() != shapes.keys():
        return False
    free: set[int] = set()
    most = min(spec.shape, default=1)
    for name, stored in layout.items():
        if len(stored.shape) != len(shapes[name]):
            return False
        for declared, side in zip(stored.shape, shapes[name], strict=True):
            if declared is None:
                free.add(side)
                most = max(most, stored.most or 0)
            elif declared != side:
                return False
    return len(free) <= 1 and all(side <= most for side in free)
