"""ASWUDI: WUDI's objective solved in closed form on the directions that take part.

The objective is that of WUDI-Merging (Cheng et al. 2025, arXiv 2503.08099): the merge should agree with each task
vector on the row space of it, where the layer's inputs lie. Solved exactly it overfits weak directions; here it is
solved on the leading K = ceil((sum sqrt l)^2 / sum l) eigenvectors of the Gram matrix and left at the plain sum
elsewhere, the spectral rule of the code published with OptMerge (Wei et al. 2025, arXiv 2505.19892).

``sides: both`` is this project's own: the same is asked on the column spaces, where the layer's outputs lie, and the
two solutions are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergenode.maths.spectral_filter import leading_filter
from mergenode.methods.accumulator import advance_counts, pool_counts, withdraw_counts
from mergenode.methods.closed_form import closed_form
from mergenode.methods.contract import Method
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE
from mergenode.methods.scaling import OWN, checked_scaling


def aswudi(
    *,
    sides: str = "both",
    width_limit: int = 4096,
    scale: float | str = OWN,
    profile: Mapping[str, float] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDE,
    include: Sequence[str] = (),
) -> Method:
    """The method on ``both`` sides of each linear map or on the ``input`` side, up to ``width_limit`` wide.

    A wider side has no part in it; a map that is too wide on all wanted sides is merged as in Iso-C (see
    ``closed_form``; ``observed`` says which Gram matrices a tensor has). Tensors that are no linear maps are averaged.
    ``scale`` (own: 1) and ``profile``: see ``scaling``; ``exclude`` and ``include``: see ``linear_maps``. Commutative,
    combinable and retractable, each up to fp32 rounding of the sums. Totals: ``count`` and ``weight_sum``.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    scaling = checked_scaling("aswudi", scale, 1.0, profile)
    form = closed_form(
        "aswudi", leading_filter, scaling, sides=sides, width_limit=width_limit, exclude=exclude, include=include
    )
    return Method(
        name="aswudi",
        reference="Cheng et al. 2025, WUDI-Merging, arXiv 2503.08099; Wei et al. 2025, arXiv 2505.19892, code",
        options=form.options,
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
