"""SWUDI: WUDI's objective solved in closed form with the filter of an early-stopped gradient descent.

The objective is that of WUDI-Merging (Cheng et al. 2025, arXiv 2503.08099). Gradient flow from the plain sum
reaches after time t the share 1 - exp(-l t) of the way to the solution along an eigenvector with eigenvalue l of the
Gram matrix; the weakest directions are left out, the spectral rule of the code published with OptMerge (Wei et al.
2025, arXiv 2505.19892).

``sides: both`` is this project's own, see ``aswudi``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

from mergenode.errors import UsageError
from mergenode.maths.spectral_filter import smooth_filter
from mergenode.methods.accumulator import advance_counts, pool_counts, withdraw_counts
from mergenode.methods.closed_form import closed_form
from mergenode.methods.contract import Method
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE
from mergenode.methods.scaling import OWN, checked_scaling


def swudi(
    *,
    time: float = 1300.0,
    ratio: float = 0.65,
    sides: str = "input",
    width_limit: int = 4096,
    scale: float | str = OWN,
    profile: Mapping[str, float] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDE,
    include: Sequence[str] = (),
) -> Method:
    """The method with flow ``time`` on the leading share ``ratio`` of directions; the defaults are the published ones.

    The other options, and what happens above ``width_limit``, are those of ``aswudi``. Commutative, combinable and
    retractable, each up to fp32 rounding of the sums. Totals: ``count`` and ``weight_sum``.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not 0.0 < time < inf:
        raise UsageError(f"swudi: option 'time' is {time!r}", hint="Give a finite number above 0; 1300 is the default.")
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0.0 < ratio <= 1.0:
        raise UsageError(
            f"swudi: option 'ratio' is {ratio!r}", hint="Give a share above 0 and at most 1; 0.65 is the default."
        )
    flow, share = float(time), float(ratio)
    scaling = checked_scaling("swudi", scale, 1.0, profile)
    form = closed_form(
        "swudi", partial(smooth_filter, time=flow, ratio=share), scaling,
        sides=sides, width_limit=width_limit, exclude=exclude, include=include,
    )  # fmt: skip
    return Method(
        name="swudi",
        reference="Cheng et al. 2025, WUDI-Merging, arXiv 2503.08099; Wei et al. 2025, arXiv 2505.19892, code",
        options={"time": flow, "ratio": share, **form.options},
        fold=form.fold,
        advance=advance_counts,
        export=form.export,
        elementwise=lambda spec: not form.is_solved(spec),
        working_bytes=form.working_bytes,
        export_bytes=form.export_bytes,
        needs_totals=False,
        uses_totals=lambda spec: not form.is_solved(spec),
        exact=True,
        commutative=True,
        state_factor=form.state_factor,
        exports_whole=form.is_solved,
        combine=form.combine,
        retract=form.retract,
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=form.layouts,
    )
