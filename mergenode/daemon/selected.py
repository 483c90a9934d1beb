"""From the weights of a selection to the fact about it: what is folded with which weight, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import fsum
from typing import Any, Literal

from mergenode.daemon.choosing import Chosen
from mergenode.ledger.considered import CHOSEN, marks
from mergenode.ledger.records import Selected
from mergenode.ledger.selection import pool_digest
from mergenode.types import Candidate, Digest

LISTED = 100
"""Contents beside the chosen ones that a fact tells about: the most promising of them."""

NOT_READ = "not_read"
"""Why of a content whose sketch showed that it cannot be the best: it has no exact score."""

Shares = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How shares of the model become weights of contributions.

    ``weights``: ``barycentric`` takes the shares as they are, ``relative`` scales them to a mean of 1. ``floor``:
    smaller shares are not folded. ``groups``: tensor names by layer group; empty where the model is chosen as a whole.
    ``factors``: of contents whose task vectors counted as shortened; they are folded that short.
    """

    weights: Literal["barycentric", "relative"] = "barycentric"
    floor: float = 0.0
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    factors: Mapping[Digest, float] = field(default_factory=dict)


def selected_fact(
    chosen: Chosen, pool: Mapping[Digest, Candidate], norms: Mapping[Digest, float], naming: Naming, *,
    objective: str, time: str, seconds: float,
) -> Selected:  # fmt: skip
    """The fact about a selection. Its size is bounded by what was chosen, but for ten characters per other content."""
    weights = _without_crumbs(chosen.state.weights, naming)
    shares = {content: _share(weights, content, naming) for content in pool}
    why = {content: _why(content, weights, chosen) for content in pool}
    listed = _listed(shares, chosen.proposal.score)
    return Selected(
        time=time,
        objective=objective,
        pool=pool_digest(pool),
        size=len(pool),
        rounds=chosen.rounds,
        stopped=chosen.stop.value,
        loss=chosen.loss,
        gap=chosen.proposal.gap,
        losses=chosen.losses,
        gaps=chosen.gaps,
        weights=weights,
        target=tuple(_targets(weights, shares, pool, naming)),
        contents=tuple(
            {
                "content": content,
                "registry": pool[content].registry,
                "name": pool[content].name,
                "score": chosen.proposal.score.get(content),
                "share": shares[content],
                "norm": norms.get(content),
                "factor": naming.factors.get(content, 1.0),
                "why": why[content],
            }
            for content in listed
        ),
        counts=dict(Counter(why.values())),
        position=chosen.state.round,
        seconds=seconds,
        others=marks(pool.keys() - set(listed)),
    )


def profile_for(factors: Mapping[str, float], groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Name patterns that give every tensor the factor of its group, each tensor exactly one of them.

    One pattern per group where that matches nothing else, names where it would. Groups with factor 1 need none.
    """
    every = [name for names in groups.values() for name in names]
    profile: dict[str, float] = {}
    for group, names in groups.items():
        factor = factors.get(group, 0.0)
        if factor == 1.0:
            continue
        pattern = f"{_literal(group)}.*"
        alone = {name for name in every if fnmatchcase(name, pattern)} == set(names)
        profile.update(dict.fromkeys([pattern] if alone else map(_literal, names), factor))
    return profile


def _literal(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join(f"[{mark}]" if mark in "*?[" else mark for mark in name)


def _without_crumbs(weights: Shares, naming: Naming) -> dict[str, dict[str, float]]:
    kept = {
        group: {content: share for content, share in sorted(shares.items()) if share >= max(naming.floor, 1e-300)}
        for group, shares in sorted(weights.items())
    }
    return {group: shares for group, shares in kept.items() if shares}


def _share(weights: Shares, content: Digest, naming: Naming) -> float:
    """Of the whole model; by layer group the mean over the groups."""
    groups = len(naming.groups) if naming.groups else 1
    return fsum(shares.get(content, 0.0) for shares in weights.values()) / groups


def _targets(
    weights: Shares, shares: Mapping[Digest, float], pool: Mapping[Digest, Candidate], naming: Naming
) -> list[dict[str, Any]]:
    """The largest share first; of equal ones the smallest digest."""
    order = sorted((content for content in pool if shares[content] > 0), key=lambda found: (-shares[found], found))
    scale = len(order) / fsum(shares[content] for content in order) if order and naming.weights == "relative" else 1.0
    targets = []
    for content in order:
        weight, profile = shares[content], {}
        if naming.groups:
            weight = max(group.get(content, 0.0) for group in weights.values())
            factors = {group: found.get(content, 0.0) / weight for group, found in weights.items()}
            profile = profile_for(factors, naming.groups)
        named = pool[content]
        targets.append(
            {
                "content": content, "registry": named.registry, "name": named.name, "revision": named.revision,
                "weight": weight * scale * naming.factors.get(content, 1.0), "profile": profile,
            }
        )  # fmt: skip
    return targets


def _listed(shares: Mapping[Digest, float], scores: Mapping[str, float]) -> list[Digest]:
    """The chosen ones by share, then the others by score, those without one last."""
    chosen = sorted((content for content in shares if shares[content] > 0), key=lambda found: (-shares[found], found))
    others = [content for content in shares if shares[content] <= 0]
    others.sort(key=lambda found: (found not in scores, scores.get(found, 0.0), found))
    return [*chosen, *others[:LISTED]]


def _why(content: Digest, weights: Shares, chosen: Chosen) -> str:
    said = chosen.proposal.why.get(content)
    if any(content in shares for shares in weights.values()):
        return CHOSEN
    if said is None:
        return NOT_READ
    return {"chosen": "outdone", "away": "useless", "held": "crumb"}.get(said.value, said.value)
