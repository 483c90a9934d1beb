"""Push-sum: averages that stay right when messages are lost, because what is lost is never lost from the sum.

Kempe, Dobra and Gehrke 2003, "Gossip-based computation of aggregate information", algorithm 1: every node holds a value
and a mass, sends shares of both, and its estimate is value over mass. The sum of all values and the sum of all masses
stay, so every estimate tends to their quotient, the mean weighted by the masses at the start.

Over links that lose messages the *running totals* of what was ever sent travel instead of the shares (Hadjicostis,
Vaidya and Dominguez-Garcia 2016, "Robust distributed average consensus via exchange of running sums"): the receiver
takes the difference to the last total that it heard. A message that is lost is made up for by the next one; a repeated
or outdated one changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

Value = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A value and a mass that belong together: what a node holds, or what was ever sent along one edge."""

    value: Value
    mass: float

    def plus(self, other: Share, factor: float = 1.0) -> Share:
        """``self + factor * other``."""
        value = tuple(a + factor * b for a, b in zip(self.value, other.value, strict=True))
        return Share(value, self.mass + factor * other.mass)

    def times(self, factor: float) -> Share:
        return Share(tuple(factor * a for a in self.value), factor * self.mass)


@dataclass(frozen=True, slots=True)
class Holder:
    """One node. ``sent`` and ``heard``: running totals per neighbour. All of it has to outlive a crash together."""

    share: Share
    sent: Mapping[int, Share] = field(default_factory=dict)
    heard: Mapping[int, Share] = field(default_factory=dict)

    @property
    def estimate(self) -> Value:
        """Value over mass: tends to the mean on every node."""
        return tuple(a / self.share.mass for a in self.share.value)


def gave(holder: Holder, neighbours: Sequence[int]) -> Holder:
    """The holder after it gave an equal share to each neighbour and kept one; the messages are its new ``sent``."""
    part = holder.share.times(1.0 / (len(neighbours) + 1))
    zero = part.times(0.0)
    sent = {**holder.sent, **{other: holder.sent.get(other, zero).plus(part) for other in neighbours}}
    return replace(holder, share=part, sent=sent)


def took(holder: Holder, source: int, total: Share) -> Holder:
    """The holder after it heard that node ``source`` has sent so much to it in all. Idempotent; old totals are ignored.

    Totals of an edge only grow in mass, so the larger mass is the newer one.
    """
    before = holder.heard.get(source, total.times(0.0))
    if total.mass <= before.mass:
        return holder
    return Holder(holder.share.plus(total.plus(before, -1.0)), holder.sent, {**holder.heard, source: total})


def in_all(holders: Sequence[Holder]) -> Share:
    """What all nodes hold together with what is on its way: stays the same whatever is lost, repeated or reordered."""
    total = holders[0].share
    for holder in holders[1:]:
        total = total.plus(holder.share)
    for source, holder in enumerate(holders):
        for target, sent in holder.sent.items():
            heard = holders[target].heard.get(source, sent.times(0.0))
            total = total.plus(sent.plus(heard, -1.0))
    return total
