"""What an alert is: its rule, what people are told, and two stories that its unit test plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

JOB = 'job=~".*mergenode.*"'
"""How rules about the process find their targets; ``build.py --job`` replaces it."""

INSTANCE = "node-a:9464"

VALUE = '{{ $value | printf "%.3g" }}'
"""In an annotation: the number, as people write it."""


@dataclass(frozen=True)
class Case:
    """Series from minute zero on, one value a minute in the notation of promtool, looked at after ``at``.

    ``labels``: those of the firing alert beside its name, severity, job and instance; None: nothing fires.
    """

    at: str
    series: Mapping[str, str]
    labels: Mapping[str, str] | None = None
    instance: bool = True


@dataclass(frozen=True)
class Alert:
    """``wait``: how long ``expr`` holds before it fires. ``fires`` and ``quiet``: what its test plays."""

    name: str
    group: str
    severity: str
    wait: str
    expr: str
    summary: str
    description: str
    fires: Case
    quiet: Case


@dataclass(frozen=True)
class Record:
    """A recording rule."""

    record: str
    expr: str
    why: str = field(default="", compare=False)


def of(name: str, **labels: str) -> str:
    """A series of the node that cases are about."""
    every = {"job": "mergenode", "instance": INSTANCE, **labels}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in every.items()) + "}"


def firing(at: str, series: Mapping[str, str], **labels: str) -> Case:
    """A story at whose end the alert fires."""
    return Case(at, series, labels)


def quiet(at: str, series: Mapping[str, str]) -> Case:
    """A story at whose end nothing fires."""
    return Case(at, series)


def grew(metric: str, window: str, than: str = "> 0") -> str:
    """True for a counter that grew by more ``than``; also for one that appeared, which ``increase`` does not see."""
    return f"increase({metric}[{window}]) {than} or ({metric} {than} unless {metric} offset {window})"


def layers(metric: str, which: str) -> str:
    """In an annotation: the three layer groups that stand out most, as the node names them."""
    query = f"{which}(3, {metric}{{instance='%s'}})"
    return (
        f'{{{{ range query (printf "{query}" $labels.instance) }}}}'
        '{{ .Labels.group }} ({{ .Value | printf "%.3g" }}) {{ end }}'
    )


def shown(metric: str = "mergenode_newest_fold_generation", **labels: str) -> str:
    """In an annotation: the command that names the contribution, with the generation that ``metric`` tells."""
    matchers = "".join(f",{name}='%s'" for name in labels)
    values = " ".join(["$labels.instance", *labels.values()])
    query = f"{metric}{{instance='%s'{matchers}}}"
    return (
        "`mergenode show --generation "
        f'{{{{ range query (printf "{query}" {values}) }}}}{{{{ .Value }}}}{{{{ end }}}}` names the contribution'
    )
