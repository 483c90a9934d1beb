"""The k-th largest magnitude of a tensor."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def kth_largest_magnitude(tensor: Tensor, k: int) -> float:
    """The k-th largest of ``|x|`` over the elements x of ``tensor`` (any shape, finite), counted from 1.

    Exact, so the same on every machine; equal magnitudes count as often as they occur. Selection on the CPU in linear
    time; allocates one copy of the tensor.

    Raises:
        ValueError: k is below 1 or above the number of elements.
    """
    if not 1 <= k <= tensor.numel():
        raise ValueError(f"no {k}-th largest of {tensor.numel()} magnitudes")
    magnitudes = np.abs(tensor.reshape(-1).cpu().numpy())
    place = len(magnitudes) - k
    magnitudes.partition(place)
    return float(magnitudes[place])
