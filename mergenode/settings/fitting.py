"""What the sections of a settings file must not do to each other."""

from __future__ import annotations

from itertools import combinations, product
from os.path import normpath
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from mergenode.settings.document import Where, dotted
from mergenode.settings.methods import TsvmSettings
from mergenode.settings.registries import RegistrySettings

if TYPE_CHECKING:
    from mergenode.settings.tree import Settings

RESERVED_REGISTRIES = {"ingest": "`mergenode ingest`", "push": "`mergenode push`"}
"""Registry names that are taken, and by whom."""


def check_together(settings: Settings) -> None:
    """Raises PydanticCustomError (``conflict``): two settings that are right by themselves and wrong together."""
    _names_differ(settings.registries)
    _places_apart(settings)
    _options_fit(settings)
    _rounds_fit(settings)
    _contributions_fit(settings)
    _gates_fit(settings)
    _hold_fits(settings)
    _weighing_fits(settings)
    _selection_fits(settings)


def conflict(message: str, *where: Where) -> PydanticCustomError:
    """An error between settings: told at the first of these places that the file writes down."""
    return PydanticCustomError("conflict", "{message}", {"message": message, "where": where})


def _names_differ(registries: tuple[RegistrySettings, ...]) -> None:
    names = [registry.name for registry in registries]
    for position, name in enumerate(names):
        where = ("registries", position)
        if name in RESERVED_REGISTRIES:
            raise conflict(
                f"the registry name {name!r} is taken by {RESERVED_REGISTRIES[name]}; set another name", where
            )
        if name in names[:position]:
            raise conflict(f"the registry name {name!r} occurs twice; set another name for one of them", where)


def _options_fit(settings: Settings) -> None:
    """Options of the method that its factory refuses together, found without loading it."""
    options = settings.method.options
    for option in ("profile", "exclude", "include"):
        patterns = options.get(option)
        if isinstance(patterns, dict | tuple) and "" in patterns:
            raise conflict(f"method.{option} holds an empty pattern; write one like '*.mlp.*'", ("method", option))
    if options.get("scale") == "evaluate" and settings.task.entrypoint is None:
        raise conflict(
            "method.scale: evaluate needs scores: set task.entrypoint (docs/tasks.md), or method.scale to own or "
            "norm_match",
            ("method", "scale"),
        )
    if isinstance(settings.method, TsvmSettings):
        _shares_fit(settings.method)


def _shares_fit(method: TsvmSettings) -> None:
    if method.merge == "agree" and method.rank != "equal":
        raise conflict(
            f"method.rank: {method.rank} does not go with method.merge: agree: which directions belong together shows "
            "in equal ranks only",
            ("method", "rank"),
        )
    if method.merge != "agree" and method.rank_share > 1:
        raise conflict(
            f"method.rank_share is {method.rank_share:g}; more than 1, up to 2, goes with method.merge: agree only",
            ("method", "rank_share"),
        )


def _rounds_fit(settings: Settings) -> None:
    """What rounds of training and mixing cannot go together with."""
    mixer = settings.mixer
    if mixer.name != "dimat":
        return
    if settings.registries:
        raise conflict(
            "with mixer.name: dimat the model is trained and mixed, contributions of registries have no place in it; "
            "set registries: [] here, and let another node merge them",
            ("registries",),
        )
    if mixer.matching != "none" and settings.task.entrypoint is None:
        raise conflict(
            f"mixer.matching: {mixer.matching} needs the code of the model: set task.entrypoint (docs/dimat.md)",
            ("mixer", "matching"),
        )
    if mixer.defence.guard is not None and settings.task.entrypoint is None:
        raise conflict(
            "mixer.defence.guard needs something to judge by: set task.entrypoint (docs/dimat.md)",
            ("mixer", "defence", "guard"),
        )


def _contributions_fit(settings: Settings) -> None:
    """Contributions travel only to nodes that take pushes."""
    if settings.mixer.name == "contributions" and not settings.peers.intake.enabled:
        raise conflict(
            "with mixer.name: contributions neighbours push to this node: set peers.intake.enabled: true, or "
            "mixer.name: none (docs/contributions.md)",
            ("peers", "intake", "enabled"),
            ("mixer", "name"),
        )


def _gates_fit(settings: Settings) -> None:
    """Gates that are on have what they judge by."""
    gates = settings.gates
    needed: list[tuple[str, str, object, str]] = [
        ("signature", "keys", gates.signature.keys, "keys to trust: set gates.signature.keys (`mergenode keygen`)"),
        ("frozen", "patterns", gates.frozen.patterns, "names to compare: set gates.frozen.patterns"),
        ("evaluation", "action", settings.task.entrypoint, "scores: set task.entrypoint (docs/tasks.md)"),
        ("frank_wolfe_sign", "action", settings.task.entrypoint, "a loss: set task.entrypoint (docs/tasks.md)"),
    ]
    active = {name for name, _, _ in gates.active()}
    for name, key, given, what in needed:
        if name in active and not given:
            raise conflict(f"gates.{name} needs {what}", ("gates", name, key), ("gates", name, "action"))
    known = {"*", *RESERVED_REGISTRIES, *(registry.name for registry in settings.registries)}
    for registry in gates.signature.keys or {}:
        if registry not in known:
            raise conflict(
                f"gates.signature.keys names the registry {registry!r}; there are {', '.join(sorted(known))}",
                ("gates", "signature", "keys", registry),
                ("gates", "signature", "keys"),
            )


def _hold_fits(settings: Settings) -> None:
    """Only what a node folds itself can be shown before it is published."""
    mixer = settings.mixer.name
    if settings.publish.hold_seconds > 0 and mixer in _NOT_HELD:
        raise conflict(
            f"publish.hold_seconds does not go with mixer.name: {mixer}: {_NOT_HELD[mixer]}",
            ("publish", "hold_seconds"),
            ("mixer", "name"),
        )


def _weighing_fits(settings: Settings) -> None:
    """What weighing and protecting cannot do without, or go together with."""
    if settings.weigh.name == "fit" and settings.task.entrypoint is None:
        raise conflict(
            "weigh.name: fit needs scores: set task.entrypoint to a plug-in with evaluate (docs/weigh.md)",
            ("weigh", "name"),
        )
    if settings.mixer.name == "dimat" and (settings.protect or settings.weigh.name == "fit"):
        raise conflict(
            "with mixer.name: dimat nothing is folded, so there is nothing to weigh or to veto: leave out weigh and "
            "protect",
            ("protect",) if settings.protect else ("weigh",),
            ("mixer", "name"),
        )
    names = [each.name for each in settings.protect]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise conflict(f"the name {name!r} occurs twice; set another for one of them", ("protect", position))


_NOT_HELD = {
    "dimat": "a round publishes what was mixed and trained; nothing is folded",
    "union": "a version holds what other nodes folded as well, and drift is measured at the node that folds",
}
"""Why a fold cannot be shown first with a mixer."""

_NOT_SELECTED = {
    "dimat": "rounds train and mix one model; there is no pool to choose from",
    "union": "a union adds up what its nodes folded, and a selection is made for the model of one node",
    "contributions": "neighbours would get the weights of this node's selection",
}
"""Why a selector cannot go together with a mixer."""


def _selection_fits(settings: Settings) -> None:
    """What choosing needs, and what it cannot go together with."""
    if settings.selector.name == "all":
        return
    where = ("selector", "name")
    if settings.task.entrypoint is None:
        raise conflict("selector.name: frank_wolfe chooses by a loss: set task.entrypoint (docs/selection.md)", where)
    if settings.mixer.name in _NOT_SELECTED:
        raise conflict(
            f"selector.name: frank_wolfe does not go with mixer.name: {settings.mixer.name}: "
            f"{_NOT_SELECTED[settings.mixer.name]}",
            where,
            ("mixer", "name"),
        )
    if settings.weigh.name == "fit":
        raise conflict(
            "selector.name: frank_wolfe gives every contribution its weight; set weigh.name: fixed",
            where,
            ("weigh", "name"),
        )
    asking = {"evaluation", "frank_wolfe_sign"} & {name for name, _, _ in settings.gates.active()}
    for name in sorted(asking):
        raise conflict(
            f"selector.name: frank_wolfe does not go with gates.{name}: it would judge merges on the way from one "
            "selection to the next, which nobody sees; the selection itself asks the same plug-in",
            where,
            ("gates", name, "action"),
        )
    if settings.method.name in ("fisher", "regmean"):
        raise conflict(
            f"selector.name: frank_wolfe does not go with method.name: {settings.method.name}: its contributions are "
            "told apart by their side-cars, which the pool does not read",
            where,
            ("method", "name"),
        )


def _places_apart(settings: Settings) -> None:
    """Refuse directories inside each other: the node would take its own output for a contribution."""
    ours: dict[Where, Path] = {
        ("node", "state"): settings.node.state,
        ("publish", "path"): settings.publish.path,
    }
    theirs: dict[Where, Path] = {("base",): settings.base}
    if settings.mixer.start is not None:
        theirs[("mixer", "start")] = settings.mixer.start
    theirs |= {("registries", position): registry.path for position, registry in enumerate(settings.registries)}
    for (where, place), (other_where, other) in [
        *product(theirs.items(), ours.items()),
        *combinations(ours.items(), 2),
    ]:
        if _overlap(place, other):
            both = f"{dotted(where)} ({place}) and {dotted(other_where)} ({other})"
            raise conflict(f"{both} must lie apart from each other", where, other_where)


def _overlap(one: Path, other: Path) -> bool:
    # By name only: settings are checked without asking the file system.
    one, other = Path(normpath(one)), Path(normpath(other))
    return one == other or one in other.parents or other in one.parents
