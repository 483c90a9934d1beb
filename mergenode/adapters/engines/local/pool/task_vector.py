"""Parts of a task vector in float64: what a candidate's files hold, minus the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.contribution import Contribution, Dense, LowRank
from mergenode.adapters.engines.local.pool.parts import Part
from mergenode.adapters.engines.local.tensors import read_slice
from mergenode.errors import RejectedError, RejectReason

_BLOCK_ELEMENTS = 1 << 20
"""Most elements of factor blocks that are in memory, of ranks that are not absurd; see ``_low_rank``."""


@dataclass(frozen=True, slots=True)
class TaskVector:
    """``theta - base`` of one opened candidate. Differences and products of fp32 values in float64: nothing is lost.

    Reading and computing are apart, so that one thread may read ahead of the other. Factors of adapters are small and
    are read, block by block, when the product is computed.
    """

    contribution: Contribution
    label: str

    def touches(self, name: str) -> bool:
        """Whether the candidate says anything about a tensor of the base."""
        return name in self.contribution.entries

    def needs_base(self, name: str) -> bool:
        """Whether ``delta`` wants the base's values of this tensor."""
        return isinstance(self.contribution.entries.get(name), Dense)

    def read(self, part: Part, seen: Callable[[str, int, memoryview], None] | None = None) -> Tensor | None:
        """The stored elements that a part is made of, in their own type; None for a product of factors.

        ``seen`` is told the name inside the files, the end in elements and the bytes. Raises TransientError.
        """
        entry = self.contribution.entries[part.spec.name]
        if isinstance(entry, LowRank):
            return None
        files = self.contribution.weights
        spec = files.specs[entry.source]
        values, buffer = read_slice(files, spec, part.start, part.stop)
        if seen is not None:
            seen(entry.source, part.stop, buffer)
        return values

    def delta(self, part: Part, values: Tensor | None, base: Tensor | None) -> Tensor:
        """The part of the task vector: (n,) float64, new. ``base``: its elements in float64, where it is needed."""
        entry = self.contribution.entries[part.spec.name]
        if isinstance(entry, LowRank):
            return self._low_rank(entry, part)
        assert values is not None
        if isinstance(entry, Dense):
            assert base is not None
            return torch.empty(part.numel, dtype=torch.float64).copy_(values).sub_(base)
        return torch.empty(part.numel, dtype=torch.float64).copy_(values).mul_(entry.scale)

    def _low_rank(self, entry: LowRank, part: Part) -> Tensor:
        """``scale * L @ R``, cut to the part; the rank is cut so that the blocks of both factors stay small."""
        found = torch.zeros(part.numel, dtype=torch.float64)
        width = max(1, prod(part.spec.shape[1:]))
        done = 0
        for rows, columns in rectangles(part.start, part.stop, width):
            height, breadth = rows[1] - rows[0], columns[1] - columns[0]
            target = found[done : done + height * breadth].view(height, breadth)
            step = max(1, _BLOCK_ELEMENTS // (height + breadth))
            for first in range(0, entry.rank, step):
                ranks = (first, min(first + step, entry.rank))
                left = self._block(entry.left, entry.left_transposed, rows, ranks)
                target.addmm_(left, self._block(entry.right, entry.right_transposed, ranks, columns))
            done += height * breadth
        return found.mul_(entry.scale)

    def _block(self, name: str, transposed: bool, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """Rows and columns of a factor in float64, as ``LowRank`` orients it."""
        return self._stored(name, columns, rows).T if transposed else self._stored(name, rows, columns)

    def _stored(self, name: str, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        files = self.contribution.weights
        spec = files.specs[name]
        width = prod(spec.shape[1:])
        if columns == (0, width):
            values, _ = read_slice(files, spec, rows[0] * width, rows[1] * width)
            return values.double().view(-1, width)
        lines = [read_slice(files, spec, row * width + columns[0], row * width + columns[1])[0] for row in range(*rows)]
        return torch.stack(lines).double()

    def not_finite(self, part: Part) -> RejectedError:
        """The refusal of a part whose values, or their squares, are no numbers."""
        entry = self.contribution.entries[part.spec.name]
        name = entry.left if isinstance(entry, LowRank) else entry.source
        return RejectedError(
            RejectReason.NOT_FINITE,
            f"{self.label}: tensor {name!r} ({self.contribution.weights.file_of(name)}): NaN, an infinity or an "
            f"overflow in the update of the elements {part.start}..{part.stop} of {part.spec.name!r}",
            hint="The training run diverged or the file is damaged: push an earlier checkpoint of the run.",
        )


def rectangles(start: int, stop: int, width: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """A range of a flattened matrix as rows and columns: pieces of rows at its ends, whole rows in between.

    >>> list(rectangles(3, 12, 4))
    [((0, 1), (3, 4)), ((1, 3), (0, 4))]
    """
    while start < stop:
        row, column = divmod(start, width)
        rows = (stop - start) // width
        if column == 0 and rows:
            yield (row, row + rows), (0, width)
            start += rows * width
        else:
            end = min(width, column + stop - start)
            yield (row, row + 1), (column, end)
            start += end - column
