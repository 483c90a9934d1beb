"""Evidence for tests of gates: an ordinary contribution, and what differs from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mergenode.gates.evidence import (
    DIRECTIONS,
    WHOLE,
    Descent,
    Evidence,
    GroupEvidence,
    SignatureEvidence,
    SignatureStatus,
    SpectraSummary,
)

GROUPS = (WHOLE, "layers.0", "layers.1")


def group(name: str = WHOLE, **differs: Any) -> GroupEvidence:
    usual = GroupEvidence(
        group=name, parameters=100, norm=1.0, base_norm=10.0, cosine=0.1, share_kept=0.8, sign_conflict=0.5
    )
    return replace(usual, **differs)


def honest(**differs: Any) -> Evidence:
    """A contribution that every gate lets pass, everything measured."""
    usual = Evidence(
        label="honest",
        groups={name: group(name) for name in GROUPS},
        history={name: (0.8, 1.0, 1.1, 1.3) for name in GROUPS},
        merged=True,
        not_finite=(),
        spectra=SpectraSummary(matrices=3, median=(0.3,) * DIRECTIONS),
        frozen_changed=(),
        scores_before={"digits": 0.9, "mail": 0.7},
        scores_after={"digits": 0.89, "mail": 0.71},
        descent=Descent(inner=-0.5, gradient_norm=2.0, delta_norm=1.0),
        signature=SignatureEvidence(status=SignatureStatus.VALID, registry="inbox", key="ed25519:aa"),
    )
    return replace(usual, **differs)


def whole(**differs: Any) -> Evidence:
    """The honest contribution with another whole model."""
    return honest(groups={**honest().groups, WHOLE: group(**differs)})


def members(norms: Sequence[float], norm: float) -> Evidence:
    """A whole model of this norm beside these members, no groups."""
    return honest(groups={WHOLE: group(norm=norm)}, history={WHOLE: tuple(norms)})
