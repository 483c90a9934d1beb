"""The models between two checkpoints, one after the other in the memory of one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.tensors import accumulator_dtype, read_slice
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.loading import check_names
from mergenode.errors import MergenodeError
from mergenode.types import TensorSpec


@contextmanager
def open_segment(model: nn.Module, start: Path, end: Path) -> Iterator[Callable[[float], None]]:
    """A function that fills ``model`` with start + gamma (end - start) and sets it to evaluation.

    Arithmetic is fp32, or fp64 where either tensor is; gamma 0 and 1 give the ends exactly. What is not floating point
    is that of ``start``. One pair of tensors is in memory beside the model.

    Raises:
        Failure: ``unfit``: the model is not that of both checkpoints. ``checkpoint``: one cannot be read, or changed.
    """
    state = model.state_dict()
    with ExitStack() as stack:
        with _reading():
            first, last = (stack.enter_context(open_weights(path, root=trusted_root(path))) for path in (start, end))
        for files, path in ((first, start), (last, end)):
            check_names(state, files, path.name)
        if set(first.specs) != set(last.specs):
            odd = sorted(set(first.specs) ^ set(last.specs))
            what = f"{start.name} and {end.name} name shared weights differently: {odd[0]!r} is in one of them"
            raise Failure("unfit", what, "Save both in the same way.")

        def fill(gamma: float) -> None:
            with _reading(), torch.no_grad():
                for name in first.specs:
                    state[name].copy_(_between(first, last, name, gamma))
                first.assert_unchanged()
                last.assert_unchanged()
            model.eval()

        yield fill


def _between(first: WeightFiles, last: WeightFiles, name: str, gamma: float) -> Tensor:
    spec, other = first.specs[name], last.specs[name]
    values = _whole(first, spec)
    if not (spec.dtype.is_float and other.dtype.is_float):
        return values
    dtype = torch.promote_types(accumulator_dtype(spec), accumulator_dtype(other))
    return torch.lerp(values.to(dtype), _whole(last, other).to(dtype), gamma)


def _whole(files: WeightFiles, spec: TensorSpec) -> Tensor:
    values, _ = read_slice(files, spec, 0, spec.numel)
    return values.view(spec.shape)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except MergenodeError as error:
        raise Failure("checkpoint", error.message, error.hint) from error
