"""All settings of a node, and what they must not do to each other."""

from __future__ import annotations

from itertools import combinations, product
from os.path import normpath
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from mergenode.settings.document import Where, dotted
from mergenode.settings.gates import GatesSettings
from mergenode.settings.methods import MethodSettings
from mergenode.settings.mixers import MixerSettings
from mergenode.settings.peers import PeersSettings
from mergenode.settings.publishing import PublishSettings
from mergenode.settings.quantities import ConfigPath
from mergenode.settings.registries import RegistrySettings
from mergenode.settings.section import REQUIRED, Section, setting, subsection
from mergenode.settings.sections import (
    EngineSettings,
    HttpSettings,
    LogSettings,
    NodeSettings,
    ShutdownSettings,
    SnapshotSettings,
    ValidationSettings,
)
from mergenode.settings.task import TaskSettings

RESERVED_REGISTRIES = {"ingest": "`mergenode ingest`", "push": "`mergenode push`"}
"""Registry names that are taken, and by whom."""


class Settings(Section):
    """One node, from one file."""

    node: NodeSettings = subsection(NodeSettings, "Who this node is.")
    base: ConfigPath = setting(
        REQUIRED,
        "The checkpoint that all contributions were fine-tuned from.",
        unit="path",
        why="only you know it",
    )
    registries: tuple[RegistrySettings, ...] = setting(
        REQUIRED,
        "Where contributions appear; an empty list takes them by `mergenode ingest` alone.",
        unit="list of URLs or registry sections",
        why="only you know where yours are",
    )
    method: MethodSettings = Field(
        default={"name": "opcm"},
        description="How contributions enter the running merge.",
        validate_default=True,
    )
    gates: GatesSettings = subsection(GatesSettings, "What a contribution must pass, see docs/gates.md.")
    publish: PublishSettings = subsection(PublishSettings, "Where versions appear.")
    snapshots: SnapshotSettings = subsection(SnapshotSettings, "Earlier statistics that are kept for replays.")
    http: HttpSettings = subsection(HttpSettings, "Metrics, probes, status.")
    peers: PeersSettings = subsection(PeersSettings, "Other nodes and pushing teams.")
    mixer: MixerSettings = subsection(MixerSettings, "How other nodes' models combine with this one's.")
    engine: EngineSettings = subsection(EngineSettings, "How folds are executed.")
    validation: ValidationSettings = subsection(ValidationSettings, "What a contribution may be.")
    task: TaskSettings = subsection(TaskSettings, "Your own code that knows model and data.")
    log: LogSettings = subsection(LogSettings, "What the node writes about itself.")
    shutdown: ShutdownSettings = subsection(ShutdownSettings, "How the node ends.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        _names_differ(self.registries)
        _places_apart(self)
        _rounds_fit(self)
        _contributions_fit(self)
        _gates_fit(self)
        return self


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
