"""``scale: evaluate``: candidates as checkpoints, scores from the task plug-in, and what happens without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import fsum, isfinite
from pathlib import Path

from mergenode.errors import MergenodeError
from mergenode.methods.scale_search import SearchLimits, search_scale
from mergenode.ports.engine import Earlier, Evaluator


@dataclass(frozen=True, slots=True)
class Choice:
    """The scale of a version. ``points``: what a search tried; None without one, empty when it failed."""

    scale: float
    points: tuple[tuple[float, float], ...] | None = None


class NoScore(Exception):
    """The plug-in did not say how good a candidate is."""


def evaluated_scale(
    candidate: Callable[[float], Path], evaluator: Evaluator | None, *, own: float, norm_rule: float | None,
    earlier: Earlier, limits: SearchLimits, warn: Callable[[str, str], None],
) -> Choice:  # fmt: skip
    """The scale whose ``candidate`` scores best, by the mean of its scores; deterministic in the scores.

    ``candidate`` writes a checkpoint at a scale and returns its directory; what it raises is passed on. A version that
    is made again takes the scale it was published with. When the plug-in fails, the last version's scale or else
    ``own`` is taken, with a warning: the node goes on.
    """
    if earlier.recorded is not None:
        points = earlier.recorded.get("evaluated") or ()
        return Choice(float(earlier.recorded["used"]), tuple((float(at), float(score)) for at, score in points))
    try:
        if evaluator is None:
            raise NoScore("there is no task plug-in")
        with opened(evaluator) as score_of:
            found = search_scale(
                lambda scale: _mean_score(score_of, candidate(scale)), own=own, norm_rule=norm_rule, limits=limits
            )
    except NoScore as why:
        scale = earlier.last_scale if earlier.last_scale is not None else own
        hint = f"The version is published with scale {scale:g}; `mergenode task check` tells what the plug-in can do."
        warn(f"scale: evaluate found no scale: {why}", hint)
        return Choice(scale, ())
    return Choice(found.scale, found.points)


@contextmanager
def opened(evaluator: Evaluator) -> Iterator[Callable[[Path], Mapping[str, float]]]:
    """The evaluator's ``with``, entered; refusing to start is an answer too."""
    with ExitStack() as stack:
        try:
            score_of = stack.enter_context(evaluator())
        except MergenodeError as error:
            raise NoScore(error.message) from error
        yield score_of


def finite_scores(score_of: Callable[[Path], Mapping[str, float]], checkpoint: Path) -> Mapping[str, float]:
    """The scores of a checkpoint, at least one, all of them finite. Raises NoScore."""
    try:
        scores = score_of(checkpoint)
    except MergenodeError as error:
        raise NoScore(error.message) from error
    if not scores or not all(isfinite(score) for score in scores.values()):
        raise NoScore(f"the scores are {list(scores.values())}, not finite numbers")
    return scores


def _mean_score(score_of: Callable[[Path], Mapping[str, float]], checkpoint: Path) -> float:
    """Mean of the scores, correctly rounded, so that their order does not matter."""
    scores = finite_scores(score_of, checkpoint)
    return fsum(scores.values()) / len(scores)
