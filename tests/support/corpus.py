"""Bad checkpoints, one fault each, with the outcome that is documented for it.

``build(registry, base)`` writes one entry into the directory ``registry`` and returns its path; ``base`` is the
Hugging Face directory of ``checkpoints.base_tensors()``. The faults lie in four modules: ``corpus_container`` (the
file), ``corpus_directory`` (which files), ``corpus_tensors`` (against the base), ``corpus_adapters``, and the
values and markers that nobody sees before the bytes are read.
"""

from __future__ import annotations

from tests.support.corpus_adapters import ADAPTERS
from tests.support.corpus_case import BadCheckpoint
from tests.support.corpus_container import CONTAINER
from tests.support.corpus_directory import DIRECTORY
from tests.support.corpus_tensors import TENSORS
from tests.support.corpus_values import VALUES

__all__ = ["CORPUS", "BadCheckpoint"]

CORPUS: tuple[BadCheckpoint, ...] = (*CONTAINER, *DIRECTORY, *TENSORS, *ADAPTERS, *VALUES)
