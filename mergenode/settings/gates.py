"""The section ``gates``: what a contribution must pass before it is committed, and what follows when it does not.

Gates that need no more than the fold tells are on; those that read the files once more, or need keys, patterns or a
task plug-in, are off until somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from mergenode.settings.section import Section, setting, subsection

Choice = Literal["off", "observe", "quarantine", "reject"]

_Key = Annotated[str, Field(pattern=r"^ed25519:[0-9a-f]{64}$")]


def _action(default: str, why: str) -> Choice:
    choice: Choice = setting(
        default,
        "What follows when this gate speaks: it is told, set aside for the operator, or refused; off: it never does.",
        unit="off, observe, quarantine or reject",
        why=why,
    )
    return choice


class GateSection(Section):
    """What all gates have in common."""

    action: Choice

    @field_validator("action", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # what YAML 1.1 makes of off without quotes

    @property
    def options(self) -> Mapping[str, object]:
        """Keyword arguments of the gate's factory."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "action"}


class SignatureGate(GateSection):
    """Signed by a key that the operator trusts, see docs/gates.md."""

    action: Choice = _action("off", "it takes keys that only you can choose")
    keys: dict[str, tuple[_Key, ...]] | None = setting(
        None,
        "Trusted public keys by name of registry; '*' stands for all others, registries without keys are not judged.",
        unit="mapping of registry names to lists of ed25519:... keys",
        why="nobody is trusted unasked",
    )

    @field_validator("keys", mode="after")
    @classmethod
    def _some(cls, value: dict[str, tuple[str, ...]] | None) -> dict[str, tuple[str, ...]] | None:
        for registry, keys in (value or {}).items():
            if not keys:
                raise ValueError(f"at least one key for {registry!r}; `mergenode keygen` makes one")
        return value


class FiniteGate(GateSection):
    """No NaN, no infinity. A fold refuses those whatever is set here."""

    action: Choice = _action("reject", "no merge can hold such a value")


class FrozenGate(GateSection):
    """Tensors that stay as they are in the base."""

    action: Choice = _action("off", "it takes patterns that only you know, and reads the files once more")
    patterns: tuple[str, ...] = setting(
        (),
        "Tensor name patterns of what has to be the base's, bit for bit.",
        unit="list of shell patterns",
        why="fine-tunes may change anything unless you say otherwise",
    )


class NormGate(GateSection):
    """The length of the update against that of the members."""

    action: Choice = _action("quarantine", "one update many times too long drowns all others")
    max_ratio: float = setting(
        5.0,
        "Norm of the update over the median of the members' norms that passes in any case.",
        unit="ratio of Frobenius norms, at least 1",
        why="fine-tunes of one base by different recipes stay below it",
        ge=1,
    )
    max_deviations: float = setting(
        6.0,
        "Robust standard deviations above the median that pass in any case.",
        unit="standard deviations by the median absolute deviation, at least 0",
        why="members that differ a lot among themselves are no reason to refuse one more",
        ge=0,
    )
    max_group_ratio: float | None = setting(
        20.0,
        "The same ratio within one layer group; null: groups are not judged.",
        unit="ratio of Frobenius norms, at least 1",
        why="teams may train few layers, but twenty times the usual change of one is an attack or a mistake",
        ge=1,
    )
    min_members: int = setting(
        3,
        "How many members the running merge must have before this gate speaks.",
        unit="contributions",
        why="the median of fewer says little",
        ge=1,
    )


class AlignmentGate(GateSection):
    """The direction of the update against that of the running merge."""

    action: Choice = _action("observe", "a contribution may be meant to undo another one")
    min_cosine: float | None = setting(
        -0.1,
        "Smallest cosine of the update and the running merge; null: not judged.",
        unit="cosine, -1 to 1",
        why="honest updates of large models are nearly orthogonal or agree",
        ge=-1,
        le=1,
    )
    min_share_kept: float | None = setting(
        0.05,
        "Smallest share of the update that a method which projects may keep; null: not judged.",
        unit="share of the norm, 0 to 1",
        why="an update of which less enters adds nothing",
        ge=0,
        le=1,
    )


class SignConflictGate(GateSection):
    """How much of the update goes against the signs of the running merge."""

    action: Choice = _action("off", "it reads base, contribution and version once more")
    max_share: float = setting(
        0.6,
        "Largest share of the update, by magnitude, whose sign opposes the running merge.",
        unit="share, 0 to 1",
        why="independent updates oppose one half of it",
        ge=0,
        le=1,
    )


class TopShareGate(GateSection):
    """How much of the update lies in one direction of each matrix."""

    action: Choice = _action("off", "it reads the files once more and decomposes every matrix")
    max_excess: float = setting(
        0.5,
        "Largest energy in the leading directions beyond what the rank explains, median over matrices by energy.",
        unit="share, 0 (all directions equal) to 1",
        why="honest fine-tunes that we measured stayed below 0.35",
        ge=0,
        le=1,
    )
    max_excess_of_adapters: float = setting(
        0.8,
        "The same for adapters, against the rank that they declare.",
        unit="share, 0 (all directions equal) to 1",
        why="an adapter of few modules uses few of its directions: up to 0.5 where we measured",
        ge=0,
        le=1,
    )
    directions: int = setting(
        1,
        "How many leading directions are looked at.",
        unit="directions, 1 to 4",
        why="a hijack amplifies one vector",
        ge=1,
        le=4,
    )


class FrankWolfeSignGate(GateSection):
    """Whether the update goes downhill on the objective of the task plug-in."""

    action: Choice = _action("off", "it needs a task plug-in with a loss")
    max_cosine: float = setting(
        0.0,
        "The cosine of update and gradient has to be below this.",
        unit="cosine, -1 to 1",
        why="any slope downhill makes the loss smaller for a small enough step",
        ge=-1,
        le=1,
    )


class EvaluationGate(GateSection):
    """What the merge could do before, it can do afterwards."""

    action: Choice = _action("off", "it needs a task plug-in that evaluates, and an export for every contribution")
    max_drop: float = setting(
        0.05,
        "How far any score of the running merge may fall.",
        unit="units of the scores, at least 0",
        why="honest contributions of other tasks cost a few points of accuracy",
        ge=0,
    )


class GatesSettings(Section):
    """One section per gate."""

    signature: SignatureGate = subsection(SignatureGate, "A signature by a trusted key.")
    finite: FiniteGate = subsection(FiniteGate, "Every value is a number.")
    frozen: FrozenGate = subsection(FrozenGate, "Tensors that stay the base's.")
    norm: NormGate = subsection(NormGate, "The length of the update.")
    alignment: AlignmentGate = subsection(AlignmentGate, "The direction of the update.")
    sign_conflict: SignConflictGate = subsection(SignConflictGate, "Signs against the running merge.")
    top_share: TopShareGate = subsection(TopShareGate, "Energy in one direction.")
    frank_wolfe_sign: FrankWolfeSignGate = subsection(FrankWolfeSignGate, "Slope of the objective.")
    evaluation: EvaluationGate = subsection(EvaluationGate, "Scores before and after.")

    def active(self) -> Iterator[tuple[str, str, Mapping[str, object]]]:
        """Name, action and options of every gate that is not off, in the order of the table of gates."""
        for name in type(self).model_fields:
            section = getattr(self, name)
            if section.action != "off":
                yield name, section.action, section.options
