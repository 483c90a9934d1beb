"""Which features a task plug-in can serve: asked when a node starts, not when it first needs them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mergenode.errors import UsageError
from mergenode.ports.task import FEATURES


def missing_methods(offered: Collection[str], wanted: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """What a plug-in that has the methods ``offered`` lacks for features of ``FEATURES``, by feature.

    Features that can be served are not in the result; empty: all can. Raises KeyError: no such feature.

    Example:
        >>> missing_methods({"build_model", "evaluate"}, ["gates: evaluation", "selector: frank_wolfe"])
        {'selector: frank_wolfe': ('calibration_batches', 'loss')}
    """
    lacking = {feature: tuple(name for name in FEATURES[feature] if name not in offered) for feature in wanted}
    return {feature: names for feature, names in lacking.items() if names}


def refuse_missing(entrypoint: str | None, offered: Collection[str], wanted: Iterable[str]) -> None:
    """Raises UsageError when the plug-in cannot serve what the settings ask of it: every feature and method by name.

    ``entrypoint`` None: there is no plug-in, and whatever is wanted is missing.
    """
    missing = missing_methods(() if entrypoint is None else offered, wanted)
    if not missing:
        return
    if entrypoint is None:
        raise UsageError(
            f"{', '.join(missing)}: needs a task plug-in, and the settings name none",
            hint="Name its class: task: {entrypoint: package.module:Class}; or leave it out; see docs/tasks.md.",
        )
    each = (f"{feature} needs {', '.join(f'{name}()' for name in names)}" for feature, names in missing.items())
    raise UsageError(
        f"the task plug-in {entrypoint} lacks methods: {'; '.join(each)}",
        hint="Add them to the class, or leave the feature out; `mergenode task check` tells what works.",
    )
