"""All settings of a node; what they must not do to each other is in ``fitting``."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mergenode.settings.fitting import check_together
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
from mergenode.settings.selectors import SelectorSettings
from mergenode.settings.task import TaskSettings
from mergenode.settings.tracing import TracingSettings
from mergenode.settings.weighing import ProtectSettings, WeighSettings


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
    selector: SelectorSettings = subsection(SelectorSettings, "Which contributions are folded.")
    publish: PublishSettings = subsection(PublishSettings, "Where versions appear.")
    snapshots: SnapshotSettings = subsection(SnapshotSettings, "Earlier statistics that are kept for replays.")
    http: HttpSettings = subsection(HttpSettings, "Metrics, probes, status.")
    peers: PeersSettings = subsection(PeersSettings, "Other nodes and pushing teams.")
    mixer: MixerSettings = subsection(MixerSettings, "How other nodes' models combine with this one's.")
    engine: EngineSettings = subsection(EngineSettings, "How folds are executed.")
    validation: ValidationSettings = subsection(ValidationSettings, "What a contribution may be.")
    task: TaskSettings = subsection(TaskSettings, "Your own code that knows model and data.")
    weigh: WeighSettings = subsection(WeighSettings, "How much of a contribution is folded.")
    protect: tuple[ProtectSettings, ...] = setting(
        (),
        "Capabilities that no contribution may harm; fixed for a state directory, like the method.",
        unit="list of sections",
        why="only you know what must not get worse",
    )
    log: LogSettings = subsection(LogSettings, "What the node writes about itself.")
    tracing: TracingSettings = subsection(TracingSettings, "Where traces go.")
    shutdown: ShutdownSettings = subsection(ShutdownSettings, "How the node ends.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        check_together(self)
        return self
