"""A task vector is not one direction blown up: merges are hijacked by an amplified low-rank vector."""

from __future__ import annotations

from math import isfinite

from mergenode.gates.contract import Finding, Gate, failed, not_finite, passed, silent
from mergenode.gates.evidence import DIRECTIONS, Evidence, Need, SpectraSummary
from mergenode.gates.reasons import GateReason


def top_share(*, max_excess: float = 0.5, max_excess_of_adapters: float = 0.8, directions: int = 1) -> Gate:
    """Energy in the leading singular directions of the matrices, beyond what their rank explains, is bounded.

    Per matrix the excess of ``SpectraSummary``: 0 when all directions that the matrix can have are equally strong, 1
    when the leading ones hold everything. So an adapter of rank 8 is compared with rank 8; adapters of few modules
    still use few of their directions, and have a limit of their own. The median counts every matrix with its energy:
    the gate speaks when at least half of the whole update lies in such matrices.

    Args:
        max_excess: of full checkpoints, in [0, 1].
        max_excess_of_adapters: where most of the energy is in factors of an adapter.
        directions: how many leading directions, 1 to ``DIRECTIONS``.
    """
    if not 1 <= directions <= DIRECTIONS:
        raise ValueError(f"directions is {directions}, it has to be 1 to {DIRECTIONS}")

    def judge(evidence: Evidence) -> Finding:
        spectra = evidence.spectra
        if spectra is None:
            return silent("top_share", "the spectra of the matrices were not measured")
        excess = spectra.median[directions - 1] if len(spectra.median) >= directions else None
        if excess is None:
            return silent("top_share", f"no matrix has more than {directions} directions")
        if not isfinite(excess):
            return not_finite("top_share", "the energy in the leading directions", excess)
        limit = max_excess_of_adapters if spectra.adapter else max_excess
        numbers = {"excess": excess, "max_excess": limit, "directions": float(directions)}
        numbers["matrices"] = float(spectra.matrices)
        if excess <= limit:
            return passed("top_share", numbers)
        message = (
            f"{_leading(directions)} of its matrices hold {excess:.4g} of the energy beyond what their rank explains "
            f"(median by energy of {spectra.matrices} matrices); the limit is {limit:.4g}{_worst(spectra)}"
        )
        return failed("top_share", GateReason.FEW_DIRECTIONS, message, _HINT, numbers)

    options = {
        "max_excess": max_excess, "max_excess_of_adapters": max_excess_of_adapters, "directions": directions,
    }  # fmt: skip
    return Gate(name="top_share", needs=frozenset({Need.SPECTRA}), judge=judge, options=options)


_HINT = "An honest update of this rank spreads out further; ask who made it and how, and release it if it is meant."


def _leading(directions: int) -> str:
    return "the leading directions" if directions == 1 else f"the {directions} leading directions"


def _worst(spectra: SpectraSummary) -> str:
    worst = spectra.worst
    if worst is None or not worst.shares:
        return ""
    return f"; the farthest is {worst.name!r}, {worst.shares[0]:.4g} of it in one of {worst.rank} directions"
