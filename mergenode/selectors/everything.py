"""The default: nothing is selected, every contribution is folded."""

from __future__ import annotations

from mergenode.selectors.contract import Selector


def everything() -> Selector:
    """All contributions, each with the weight that it came with. Asks nothing of the world."""
    return Selector("all", None)
