"""What the node asks a task plug-in about one model or two: scores, losses, gradients, side-cars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

from mergenode.adapters.tasks.asking import BatchProgress, PluginWorker, unheard
from mergenode.adapters.tasks.side_car_file import publish
from mergenode.ports.task import MOST_SAMPLES


class TaskWorker(PluginWorker):
    """See ``PluginWorker`` for errors. ``batches``: at most so many of the plug-in's calibration batches, None: all."""

    def gram(
        self, checkpoint_dir: Path, out: Path, *, batches: int | None = None, progress: BatchProgress = unheard
    ) -> Mapping[str, int]:
        """Write the Grams of a full checkpoint's linear layers to the file ``out``; numbers of tensors, batches, rows.

        Durability: the content of ``out`` is synced on return.
        """
        return self._write("gram", checkpoint_dir, out, batches, progress)

    def fisher(
        self, checkpoint_dir: Path, out: Path, *, batches: int | None = None, progress: BatchProgress = unheard
    ) -> Mapping[str, int]:
        """Write the diagonal Fisher of a full checkpoint to ``out``; numbers of tensors and examples. See ``gram``."""
        return self._write("fisher", checkpoint_dir, out, batches, progress)

    def gradient(
        self, checkpoint: Path, out: Path, *, batches: int | None = None, progress: BatchProgress = unheard
    ) -> float:
        """Mean loss over the calibration batches at a full checkpoint; its gradient becomes the file ``out``.

        ``out`` (``*.safetensors``, its directory is there) holds fp32 tensors with names and shapes of the checkpoint:
        d/d theta of 1/n sum_b loss(model, b), every batch counted once whatever its size, the model in evaluation mode.
        Tied weights are there once, under the first of their names in the checkpoint, with the sum over their places.
        What is not there has gradient zero: buffers, frozen tensors, and parameters that no batch depends on. A model
        that ``build_model`` makes in a smaller type is differentiated in that type and summed up in fp32.

        Durability: content and name of ``out`` are synced on return; after an error an older file is still there.
        Idempotence: as far as the plug-in repeats itself.
        """
        places = {"checkpoint": str(checkpoint.absolute()), "batches": batches}

        def make(private: Path) -> float:
            request = {"call": "gradient", "out": str(private.absolute()), **places}
            return self._number(request, self._ask(request, progress))

        return publish(out, make)

    def losses(
        self,
        start: Path,
        end: Path,
        gammas: Sequence[float],
        *,
        batches: int | None = None,
        progress: BatchProgress = unheard,
    ) -> list[float]:
        """Mean calibration loss at start + gamma (end - start) for each gamma; gammas may lie outside of [0, 1].

        Both are full checkpoints with the same names and shapes. Interpolated in fp32 (fp64 where either is) in the
        worker's memory, exact at 0 and 1, one pair of tensors at a time beside the model; what is not floating point
        stays that of ``start``. All points see the same batches, which are kept in memory meanwhile: differences are
        those of the models. ``progress`` hears (batches drawn, batches in all or 0). All points together have
        ``timeout`` seconds.

        Returns infinity where the loss is not finite, so that such a point is never the smallest; if it is finite
        nowhere, that is a failure. Raises ValueError: a gamma that is not finite.
        """
        if not gammas:
            return []
        places = {"start": str(start.absolute()), "end": str(end.absolute())}
        request = {"call": "segment", **places, "gammas": [float(gamma) for gamma in gammas], "batches": batches}
        answer = self._ask(request, progress)
        if not isinstance(answer, list) or len(answer) != len(gammas):
            raise self._forged(request)
        return [inf if loss is None else self._number(request, loss) for loss in answer]

    def losses_by_batch(
        self, checkpoint: Path, *, batches: int | None = None, progress: BatchProgress = unheard
    ) -> list[float]:
        """The loss of every calibration batch by itself at a full checkpoint, in their order.

        From 1 to ``MOST_SAMPLES`` numbers; infinity where the loss is not finite, as far as everywhere: whether the
        checkpoint or the plug-in is to blame shows at another one.
        """
        request = {"call": "by_batch", "checkpoint": str(checkpoint.absolute()), "batches": batches}
        answer = self._ask(request, progress)
        most = MOST_SAMPLES if batches is None else min(batches, MOST_SAMPLES)
        if not isinstance(answer, list) or not 0 < len(answer) <= most:
            raise self._forged(request)
        return [inf if loss is None else self._number(request, loss) for loss in answer]

    def try_method(self, method: str, checkpoint_dir: Path) -> str:
        """Call one method of the plug-in once, on as little as possible; what came of it, in words."""
        said: str = self._ask({"call": "try", "method": method, "checkpoint": str(checkpoint_dir.absolute())})
        return said

    def _write(
        self, kind: str, checkpoint_dir: Path, out: Path, batches: int | None, progress: BatchProgress
    ) -> Mapping[str, int]:
        places = {"checkpoint": str(checkpoint_dir.absolute()), "out": str(out.absolute())}
        made: dict[str, int] = self._ask({"call": kind, **places, "batches": batches}, progress)
        return made
