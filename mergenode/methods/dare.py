"""DARE: drop most entries of a task vector at random, rescale the rest, add up (Yu et al. 2024, arXiv 2311.03099).

Each entry of a contribution is dropped with probability p and the survivors are divided by 1 - p, which leaves the
expectation unchanged. What survives is a function of the contribution's content and the tensor's name (see
``maths.random_mask``): the same in a replay, for a retraction and on another node, without a mask being stored.

Content means the stored bytes. An adapter and the dense checkpoint made from it are different content, so other entries
of them survive: this is the one method of the family where the two agree only on average.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from math import isfinite

import torch
from torch import Tensor

from mergenode.errors import UsageError
from mergenode.maths.norms import exact_total, shown_inner, wide_buffer, wide_square
from mergenode.maths.random_mask import BLOCK, random_mask
from mergenode.methods.accumulator import advance_counts, combine_sums, export_scaled, pool_counts, withdraw_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.layouts import Stored
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import TensorSpec


def dare(*, drop: float = 0.5, scale: float | str = OWN, profile: Mapping[str, float] | None = None) -> Method:
    """Task arithmetic over task vectors of which the share ``drop`` is dropped.

    ``scale`` (own: 0.3, as in task arithmetic) and ``profile``: see ``scaling``. Commutative, combinable and
    retractable, each up to fp32 rounding of the running sum. Totals: ``count`` and ``weight_sum``, for information.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    if isinstance(drop, bool) or not isinstance(drop, (int, float)) or not 0.0 <= drop < 1.0:
        raise UsageError(
            f"dare: option 'drop' is {drop!r}",
            hint="Give a probability from 0 (drop nothing) to below 1; 0.5 is the default.",
        )
    share = 1.0 - float(drop)
    scaling = checked_scaling("dare", scale, 0.3, profile)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        return export_scaled(statistics, base, scaling.of(spec), keep_first=False)

    return Method(
        name="dare",
        reference="Yu et al. 2024, Language Models are Super Mario, arXiv 2311.03099",
        options={"drop": float(drop), **scaling.options},
        fold=lambda spec, statistics, base, incoming: _add(spec, statistics, incoming, share, 1),
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        needs_content=True,
        working_bytes=lambda spec: WORKING_BYTES,
        needs_totals=False,
        own_scale=lambda totals: 0.3,
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 1.0,
        combine=lambda spec, left, right, base: combine_sums(left, right, base),
        retract=lambda spec, statistics, base, incoming: _add(spec, statistics, incoming, share, -1),
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=lambda spec: ({"sum": Stored(spec.shape)},),
    )


WORKING_BYTES = (2 * 8 + 2 * 8 + 2) * BLOCK
"""One block: survivors, fp64 for the norms, a chunk of zeros for the first contribution, and the mask."""


def mask_key(spec: TensorSpec, incoming: Incoming) -> bytes:
    """Where a contribution's coin flips for a tensor come from: its content and the tensor's name.

    A caller that does not know the digest of the stored bytes gets one of the task vector's own.
    """
    content = incoming.content or _digest(incoming.delta)
    return f"{content} {spec.name}".encode()


def _digest(delta: Tensor) -> str:
    values = delta.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(values.view(torch.uint8).numpy().data).hexdigest()


def _blocks(start: int, numel: int) -> Iterator[tuple[int, int, slice]]:
    """Of ``numel`` elements from ``start`` of a tensor on: blocks, where in each to begin, which elements that is."""
    place = start
    while place < start + numel:
        block, first = divmod(place, BLOCK)
        stop = min(start + numel, (block + 1) * BLOCK)
        yield block, first, slice(place - start, stop - start)
        place = stop


def _add(spec: TensorSpec, statistics: Statistics, incoming: Incoming, share: float, sign: int) -> Folded:
    """Add (sign 1) or take back (sign -1) what survives. One pass, block by block, so that sums cost no extra trips."""
    delta = incoming.delta.reshape(-1)
    before = statistics["sum"].reshape(-1) if statistics else None
    after, key = torch.empty_like(delta), mask_key(spec, incoming)
    survivors, zeros = (torch.zeros_like(delta[:BLOCK]) for _ in range(2))
    wide = wide_buffer(delta.numel(), delta.device)
    sums: dict[str, list[float]] = {"delta_sq": [], "kept_sq": [], "merge_sq": [], "dot": []}
    for block, first, part in _blocks(incoming.start, delta.numel()):
        moved, new = delta[part], after[part]
        old = before[part] if before is not None else zeros[: len(moved)]
        sums["delta_sq"].append(wide_square(moved, wide))
        entering = survivors[: len(moved)].copy_(random_mask(key, block, len(moved), share, first)).mul_(moved)
        sums["kept_sq"].append(shown_inner(entering, entering))
        torch.add(old, entering.mul_(1.0 / share), alpha=sign, out=new)
        sums["merge_sq"].append(shown_inner(new, new))
        sums["dot"].append(shown_inner(moved, old))
    found = {name: exact_total(parts) for name, parts in sums.items()}
    if not isfinite(found["delta_sq"]):
        return Folded(statistics, found)  # the caller refuses the contribution
    found["kept_sq"] = min(found["kept_sq"], found["delta_sq"])  # they are rounded differently
    return Folded({"sum": after.view(incoming.delta.shape)}, found)
