"""Whether a linear weight is stored [out, in] or [in, out] (Conv1D of GPT-2).

peft asks the module's class, which a file of weights does not tell. A weight that is not square tells it by its shape;
for square ones the others of the same adapter do, because peft writes ``fan_in_fan_out`` after the last module it met
and so the saved flag alone is not to be trusted.
"""

from __future__ import annotations

from mergenode.errors import RejectedError, RejectReason


class Orientation:
    """Collects what the weights that are not square say, then answers for the square ones."""

    def __init__(self, fan_in_fan_out: bool) -> None:
        self._flag = fan_in_fan_out
        self._seen: dict[str, set[bool]] = {}
        self._all: set[bool] = set()

    def observe(self, module: str, shape: tuple[int, ...], out: int, inner: int) -> None:
        """One adapted module: shape of its base weight, and (out, in) of its factor pair."""
        if out != inner and shape in ((out, inner), (inner, out)):
            transposed = shape == (inner, out)
            self._seen.setdefault(_last(module), set()).add(transposed)
            self._all.add(transposed)

    def transposed(self, module: str, shape: tuple[int, ...], out: int, inner: int) -> bool:
        """True for [in, out].

        Raises:
            RejectedError: ADAPTER_UNSUPPORTED when the weight is square and the others disagree.
        """
        if out != inner:
            return shape == (inner, out)
        for votes in (self._seen.get(_last(module), set()), self._all):
            if len(votes) == 1:
                return next(iter(votes))
        if not self._all:
            return self._flag
        raise RejectedError(
            RejectReason.ADAPTER_UNSUPPORTED,
            f"module {module!r}: its weight is square, and the adapter's other modules store theirs both ways",
            hint="Merge the adapter into the base model (peft: merge_and_unload) and offer the full checkpoint.",
        )


def _last(module: str) -> str:
    return module.rpartition(".")[2]
