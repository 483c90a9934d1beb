"""The options of every merge method, by the names of its factory. What is left out is up to the factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mergenode.settings.section import Section, setting


class _MethodSection(Section):
    @property
    def options(self) -> Mapping[str, object]:
        """What the file sets, as keyword arguments of the method's factory."""
        given = self.model_dump(exclude_unset=True)
        return {name: value for name, value in given.items() if name != "name" and value is not None}


class OpcmSettings(_MethodSection):
    """Each new task vector is projected against the running merge (Tang et al., arXiv 2501.09522)."""

    name: Literal["opcm"] = setting(
        "opcm", "Merge method.", unit="name", why="it interferes least with what was folded before"
    )
    alpha: float = setting(
        0.5,
        "Share of the running merge's spectrum that new contributions may not touch.",
        unit="share of the sum of singular values, 0 up to but not 1",
        why="it is the published choice",
        ge=0,
        lt=1,
    )
    variant: Literal["block", "block_orthogonal", "diagonal", "paper"] = setting(
        "block",
        "Which part of the projection coefficients is removed.",
        unit="name",
        why="it is well conditioned: rounding does not grow from fold to fold",
    )
    exclude: tuple[str, ...] | None = setting(
        None,
        "Tensor name patterns that are summed, not projected; null: embeddings and position tables.",
        unit="list of shell patterns",
        why="a table of vectors has no shared spectrum to protect",
    )
    include: tuple[str, ...] | None = setting(
        None,
        "Tensor name patterns that are projected although exclude names them.",
        unit="list of shell patterns",
        why="exclude alone is right for the usual models",
    )


class TaskArithmeticSettings(_MethodSection):
    """The scaled sum of all task vectors (Ilharco et al., arXiv 2212.04089)."""

    name: Literal["task_arithmetic"] = setting(
        "task_arithmetic", "Merge method.", unit="name", why="it names this section"
    )
    scale: float = setting(0.3, "Factor of the sum of task vectors.", unit="factor", why="it is the published choice")


class AverageSettings(_MethodSection):
    """The weighted mean of all contributions."""

    name: Literal["average"] = setting("average", "Merge method.", unit="name", why="it names this section")


METHOD_SECTIONS: Mapping[str, type[_MethodSection]] = {
    "opcm": OpcmSettings,
    "task_arithmetic": TaskArithmeticSettings,
    "average": AverageSettings,
}


def method_options(name: str) -> frozenset[str]:
    """The option names of a method, known without importing it."""
    return frozenset(METHOD_SECTIONS[name].model_fields) - {"name"}
