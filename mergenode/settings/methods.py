"""The options of every merge method, by the names of its factory. What is left out is up to the factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from mergenode.settings.quantities import ScaleChoice
from mergenode.settings.section import Section, setting
from mergenode.types import LARGEST_FACTOR

_Factor = Annotated[float, Field(strict=True, ge=0, le=LARGEST_FACTOR)]


class _MethodSection(Section):
    name: str

    @property
    def options(self) -> Mapping[str, object]:
        """What the file sets, as keyword arguments of the method's factory."""
        given = self.model_dump(exclude_unset=True)
        return {name: value for name, value in given.items() if name != "name" and value is not None}


class _ProfileSection(_MethodSection):
    """What every method that adds up task vectors offers."""

    profile: dict[str, _Factor] | None = setting(
        None,
        "Factors of the published update by tensor name pattern; several that match multiply.",
        unit="mapping of shell patterns to factors from 0 to 1000000",
        why="all layers count alike unless you know better",
    )


class _ScaledSection(_ProfileSection):
    scale: ScaleChoice = setting(
        "own",
        "Factor of the published update; norm_match: mean norm of the contributions; evaluate: by the task plug-in.",
        unit="factor of at most 1000000 in size, own (the method's), norm_match or evaluate",
        why="the method's own size was better than any rule that we measured",
    )


class _LinearMapSection(_ScaledSection):
    exclude: tuple[str, ...] | None = setting(
        None,
        "Tensor name patterns that are averaged, not treated as matrices; null: embeddings and position tables.",
        unit="list of shell patterns",
        why="a table of vectors is no linear map",
    )
    include: tuple[str, ...] | None = setting(
        None,
        "Tensor name patterns that are treated as matrices although exclude names them.",
        unit="list of shell patterns",
        why="exclude alone is right for the usual models",
    )


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


class TaskArithmeticSettings(_ProfileSection):
    """The scaled sum of all task vectors (Ilharco et al., arXiv 2212.04089)."""

    name: Literal["task_arithmetic"] = setting(
        "task_arithmetic", "Merge method.", unit="name", why="it names this section"
    )
    scale: ScaleChoice = setting(
        0.3,
        "Factor of the sum of task vectors; norm_match: mean norm of the contributions; evaluate: by the plug-in.",
        unit="factor of at most 1000000 in size, own (0.3), norm_match or evaluate",
        why="it is the published choice",
        strict=None,
    )


class AverageSettings(_ProfileSection):
    """The weighted mean of all contributions."""

    name: Literal["average"] = setting("average", "Merge method.", unit="name", why="it names this section")


class IsoSettings(_LinearMapSection):
    """The sum of all task vectors with its directions made equally strong (Marczak et al., arXiv 2502.04959)."""

    name: Literal["iso"] = setting("iso", "Merge method.", unit="name", why="it names this section")


class MagMaxSettings(_ScaledSection):
    """Per element the task vector of largest magnitude (Marczak et al., arXiv 2407.06322)."""

    name: Literal["magmax"] = setting("magmax", "Merge method.", unit="name", why="it names this section")


class TsvmSettings(_LinearMapSection):
    """Leading singular triplets of all task vectors, decorrelated (Gargiulo et al., arXiv 2412.00081)."""

    name: Literal["tsvm"] = setting("tsvm", "Merge method.", unit="name", why="it names this section")
    rank_share: float = setting(
        1.0,
        "Share of a matrix' directions that all contributions together may use; with merge: agree up to 2.",
        unit="share, above 0 up to 1, or 2",
        why="it is the published choice, and neither more nor less was better; agree is better with 2",
        gt=0,
        le=2,
    )
    rank: Literal["equal", "adaptive"] = setting(
        "equal",
        "How the directions are shared out: equally, or in proportion to how many take part in a contribution.",
        unit="choice",
        why="it is the published rule",
    )
    merge: Literal["decorrelate", "agree"] = setting(
        "decorrelate",
        "How directions are put together: made orthogonal, or so that the merge agrees with every contribution.",
        unit="choice",
        why="it is the published rule; agree keeps more and takes longer to publish",
    )
    outlier_clip: float | None = setting(
        None,
        "Standard deviations above the mean magnitude at which elements of an update are cut back.",
        unit="standard deviations, at least 0",
        why="nothing is clipped, as published",
        ge=0,
    )


class _ClosedFormSection(_LinearMapSection):
    width_limit: int = setting(
        4096,
        "Widest side of a matrix that gets a Gram matrix; wider ones do without that side, or are merged as in iso.",
        unit="elements",
        why="a Gram matrix of this width takes 64 MiB and a minute to decompose",
        ge=0,
    )


class SwudiSettings(_ClosedFormSection):
    """WUDI's objective in closed form, with the filter of early stopping (Cheng et al., arXiv 2503.08099)."""

    name: Literal["swudi"] = setting("swudi", "Merge method.", unit="name", why="it names this section")
    time: float = setting(
        1300.0,
        "How long the gradient flow that is solved for would have run.",
        unit="time of the flow, without dimension",
        why="it is the published choice",
        gt=0,
    )
    ratio: float = setting(
        0.65,
        "Share of the directions of a matrix that the flow may change.",
        unit="share, above 0 up to 1",
        why="it is the published choice",
        gt=0,
        le=1,
    )
    sides: Literal["both", "input"] = setting(
        "input",
        "Which sides of a matrix have to agree with the contributions.",
        unit="name",
        why="it is the published choice",
    )


class AswudiSettings(_ClosedFormSection):
    """WUDI's objective in closed form, on the directions that take part (Cheng et al., arXiv 2503.08099)."""

    name: Literal["aswudi"] = setting("aswudi", "Merge method.", unit="name", why="it names this section")
    sides: Literal["both", "input"] = setting(
        "both",
        "Which sides of a matrix have to agree with the contributions.",
        unit="name",
        why="it kept more of the contributions than the input side alone",
    )


class TiesSettings(_ScaledSection):
    """Trim, elect a sign, average what agrees with it (Yadav et al., arXiv 2306.01708)."""

    name: Literal["ties"] = setting("ties", "Merge method.", unit="name", why="it names this section")
    density: float = setting(
        0.2,
        "Share of each tensor's largest changes that take part.",
        unit="share, above 0 up to 1",
        why="it is the published choice",
        gt=0,
        le=1,
    )


class DareSettings(_ScaledSection):
    """The scaled sum of task vectors most of which was dropped at random (Yu et al., arXiv 2311.03099)."""

    name: Literal["dare"] = setting("dare", "Merge method.", unit="name", why="it names this section")
    drop: float = setting(
        0.5,
        "Probability with which an element of a contribution is dropped.",
        unit="probability, 0 up to but not 1",
        why="more adds noise that only large models forgive",
        ge=0,
        lt=1,
    )


class WidenSettings(_LinearMapSection):
    """Inputs weighed by how far each contribution moved them (Yu et al., arXiv 2408.03092)."""

    name: Literal["widen"] = setting("widen", "Merge method.", unit="name", why="it names this section")
    threshold: float = setting(
        1.0,
        "From how many times a contribution's mean rank on a change counts with calibration instead of its rank.",
        unit="factor of at least 0",
        why="it is the published choice",
        ge=0,
    )
    calibration: float = setting(
        1.0, "Weight of such changes.", unit="factor of at least 0", why="it is the published choice", ge=0
    )


class FisherSettings(_ScaledSection):
    """Entries weighed by their diagonal Fisher, from side-cars (Matena and Raffel, arXiv 2111.09832)."""

    name: Literal["fisher"] = setting("fisher", "Merge method.", unit="name", why="it names this section")
    floor: float = setting(
        1e-3,
        "Added to every Fisher, so that entries which matter to nobody are averaged.",
        unit="share of a contribution's root mean square, or absolute without normalise",
        why="what is smaller is noise of the sample",
        gt=0,
    )
    normalise: bool = setting(
        True,
        "Divide the Fisher of a contribution by its root mean square over the model.",
        unit="true or false",
        why="confident models have small gradients and should not count less",
    )


class RegMeanSettings(_LinearMapSection):
    """Outputs of each layer matched on what its inputs look like, from side-cars (Jin et al., arXiv 2212.09849)."""

    name: Literal["regmean"] = setting("regmean", "Merge method.", unit="name", why="it names this section")
    off_diagonal: float = setting(
        0.9,
        "Factor of the correlations between inputs.",
        unit="factor, 0 to 0.999",
        why="it is the published choice for encoders and keeps small samples from being trusted",
        ge=0,
        le=0.999,
    )
    ridge: float = setting(
        1e-3,
        "Added to the diagonal of every Gram matrix, whose mean diagonal is 1.",
        unit="factor above 0",
        why="inputs that no sample used are averaged and hardly any other changes",
        ge=1e-9,
    )
    width_limit: int = setting(
        4096,
        "Widest input of a matrix that is solved for; wider ones are averaged.",
        unit="elements",
        why="a Gram matrix of this width takes 64 MiB",
        ge=0,
    )


MethodSettings = Annotated[
    OpcmSettings
    | TaskArithmeticSettings
    | AverageSettings
    | IsoSettings
    | TsvmSettings
    | SwudiSettings
    | AswudiSettings
    | TiesSettings
    | DareSettings
    | MagMaxSettings
    | WidenSettings
    | FisherSettings
    | RegMeanSettings,
    Field(discriminator="name"),
]
"""The section ``method`` of the settings: its options depend on the name."""

METHOD_SECTIONS: Mapping[str, type[_MethodSection]] = {
    "opcm": OpcmSettings,
    "task_arithmetic": TaskArithmeticSettings,
    "average": AverageSettings,
    "iso": IsoSettings,
    "tsvm": TsvmSettings,
    "swudi": SwudiSettings,
    "aswudi": AswudiSettings,
    "ties": TiesSettings,
    "dare": DareSettings,
    "magmax": MagMaxSettings,
    "widen": WidenSettings,
    "fisher": FisherSettings,
    "regmean": RegMeanSettings,
}


def method_options(name: str) -> frozenset[str]:
    """The option names of a method, known without importing it."""
    return frozenset(METHOD_SECTIONS[name].model_fields) - {"name"}
