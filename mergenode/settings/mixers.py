"""The section ``mixer``: what is exchanged with other nodes, and how their models enter this node's."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, field_validator, model_validator

from mergenode.settings.quantities import ConfigPath
from mergenode.settings.section import Section, setting, subsection

_Share = Annotated[float, Field(ge=0, le=1)]


class WaitSettings(Section):
    """How long a round waits for neighbours, and how old a model may be."""

    quorum: float = setting(
        0.5,
        "Share of the live neighbours without which a round goes on only after the longest wait.",
        unit="share, 0 to 1",
        why="half of the neighbours average most of what all would",
        ge=0,
        le=1,
    )
    shortest: float = setting(
        10.0,
        "Least time after the own offer until stragglers are left behind.",
        unit="seconds",
        why="a hiccup of the network should cost nobody a round",
        ge=0,
    )
    longest: float = setting(
        3600.0,
        "Most time that a round ever waits, whatever is missing.",
        unit="seconds",
        why="some train for an hour, and a node that stands still longer wants to be seen",
        gt=0,
    )
    staleness: int = setting(
        1,
        "Epochs that a neighbour's newest model may lie back.",
        unit="epochs",
        why="one round late still helps, and older models pull back",
        ge=0,
        le=1000,
    )
    discount: float = setting(
        0.5,
        "Factor of a model's share for every epoch that it is late.",
        unit="factor, 0 to 1",
        why="what is half as new counts half",
        ge=0,
        le=1,
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError("shortest at most longest")
        return self


class DefenceSettings(Section):
    """What a neighbour's model may be, and what it can do at most."""

    clip: float | None = setting(
        3.0,
        "Longest difference to the own model that counts, in multiples of the usual one; null: any.",
        unit="factor",
        why="honest neighbours lie within it, and a liar gets no farther",
        gt=0,
    )
    limit: float = setting(
        100.0,
        "Difference from which on a model is refused and its node reported, in multiples of the usual one.",
        unit="factor",
        why="after a long partition honest models are far apart, too",
        gt=1,
    )
    robust: Literal["none", "trimmed_mean", "median", "centred_clip"] = setting(
        "none",
        "Rule that a few liars cannot move; used from five neighbours on.",
        unit="name",
        why="it makes all neighbours count alike and learns more slowly",
    )
    trim: float = setting(
        0.2,
        "trimmed_mean: share of the neighbours that is left out at each end, at least one.",
        unit="share, above 0 and below 0.5",
        why="it stands one liar in five",
        gt=0,
        lt=0.5,
    )
    guard: float | None = setting(
        None,
        "The mix is dropped when its loss (or score) is worse than the own model's by this share of it; null: never.",
        unit="share, such as 0.1",
        why="a good mix is often worse until the next training",
        ge=0,
    )


class MixerSettings(Section):
    """How the models of other nodes combine with this one's. All but the name is for dimat; see docs/dimat.md."""

    name: Literal["none", "union", "dimat", "contributions"] = setting(
        "none",
        "What is exchanged with other nodes: none | union | dimat | contributions.",
        unit="name",
        why="a node alone merges what its registries bring",
    )
    start: ConfigPath | None = setting(
        None,
        "Model that this node's first round starts from; null: the base.",
        unit="path",
        why="fine-tuning starts from the base; a network that is trained from nothing brings its own initialisation",
    )
    rounds: int | None = setting(
        None,
        "Rounds after which the node trains and mixes no more, and goes on serving its model; null: for ever.",
        unit="rounds",
        why="new data keeps coming in",
        ge=1,
    )
    topology: Literal["neighbours", "ring", "full", "torus", "exponential", "custom"] = setting(
        "neighbours",
        "Who mixes with whom: the nodes of peers.neighbours, or a graph over members.",
        unit="name",
        why="the neighbours are listed already",
    )
    members: tuple[UUID, ...] = setting(
        (),
        "Ids of all nodes, in the order in which a named topology counts them; the same on every node.",
        unit="list of node ids",
        why="only the named topologies need it",
    )
    matrix: tuple[tuple[_Share, ...], ...] | None = setting(
        None,
        "custom: the share of each member's model in each member's mix, one row per member.",
        unit="rows of shares",
        why="only you know it",
    )
    matching: Literal["none", "weights", "activations"] = setting(
        "none",
        "How the units of a neighbour's network are brought into the order of ours.",
        unit="name",
        why="fine-tunes of one base are in the same order",
    )
    batches: int | None = setting(
        None,
        "Most calibration batches for matching, BatchNorm and the guard; null: all that the plug-in yields.",
        unit="batches",
        why="the plug-in knows how many are enough",
        ge=1,
    )
    training_seconds: float = setting(
        3600.0,
        "How long one training may take before it is ended, and the round goes on without.",
        unit="seconds",
        why="neighbours wait for an hour at most",
        gt=0,
    )
    evaluate: bool = setting(
        True,
        "Score every round's model before and after mixing, where the plug-in can.",
        unit="true or false",
        why="whether mixing helps is what one wants to know",
    )
    publish_every: int = setting(
        1,
        "Publish a version after so many rounds.",
        unit="rounds",
        why="an always-fresh model is the point",
        ge=1,
    )
    synchronous: bool = setting(
        False,
        "Wait for every neighbour in every round, up to wait.longest.",
        unit="true or false",
        why="it is for papers and tests: one slow node holds up all",
    )
    wait: WaitSettings = subsection(WaitSettings, "How long a round waits.")
    defence: DefenceSettings = subsection(DefenceSettings, "What a neighbour's model may be.")

    @field_validator("members", mode="after")
    @classmethod
    def _once(cls, value: tuple[UUID, ...]) -> tuple[UUID, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a member is there twice")
        return value

    @model_validator(mode="after")
    def _members_of_a_graph(self) -> Self:
        if self.topology == "neighbours":
            if self.members or self.matrix is not None:
                raise ValueError("members and matrix are for a named topology: set topology, or leave them out")
            return self
        if not self.members:
            raise ValueError(f"topology {self.topology} needs members: the ids of all nodes")
        if (self.matrix is not None) != (self.topology == "custom"):
            raise ValueError("topology custom and matrix go together")
        if self.matrix is not None and len(self.matrix) != len(self.members):
            raise ValueError(f"matrix has {len(self.matrix)} rows for {len(self.members)} members")
        return self
