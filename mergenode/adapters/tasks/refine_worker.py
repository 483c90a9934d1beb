"""A worker that computes and uses the sums of a refinement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mergenode.adapters.tasks.asking import BatchProgress, PluginWorker, unheard

REFINED = frozenset({"steps", "before", "after"})


class RefineWorker(PluginWorker):
    """See ``PluginWorker`` for errors."""

    def probe(
        self, checkpoint: Path, name: str, out: Path, *, weight: float = 1.0, progress: BatchProgress = unheard
    ) -> Mapping[str, int] | None:
        """Write what a full checkpoint adds to the sums (``maths.probe_sums``) to the file ``out``.

        ``name``: what the plug-in is asked a head for. Numbers of inputs, classes, and the width; None, and no file,
        when it has none. Durability: the content of ``out`` is synced on return.
        """
        request = {"call": "probe", "checkpoint": str(checkpoint.absolute()), "name": name, "weight": weight}
        answer = self._ask({**request, "out": str(out.absolute())}, progress)
        if answer is None:
            return None
        if not isinstance(answer, dict):
            raise self._forged(request)
        return {key: int(self._number(request, value)) for key, value in answer.items()}

    def refine(
        self, merged: Path, base: Path, sums: Path, out: Path, *,
        epochs: int, rate: float, seed: int = 0, progress: BatchProgress = unheard,
    ) -> Mapping[str, float]:  # fmt: skip
        """Train a full checkpoint to agree with sums; the result, in its names and types, becomes the file ``out``.

        Only tensors in which it differs from ``base`` are trained. ``steps``, and the mean disagreement ``before`` and
        ``after`` without the part that no model can change. Durability: the content of ``out`` is synced on return.
        """
        places = {"checkpoint": merged, "base": base, "sums": sums, "out": out}
        request = {"call": "refine", "epochs": epochs, "rate": rate, "seed": seed}
        answer = self._ask({**request, **{name: str(path.absolute()) for name, path in places.items()}}, progress)
        if not isinstance(answer, dict) or answer.keys() != REFINED:
            raise self._forged(request)
        return {key: self._number(request, value) for key, value in answer.items()}
