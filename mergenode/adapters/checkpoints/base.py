"""The base model, described once in one streaming pass and cached by the caller."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergenode.adapters.checkpoints.digest import ByteProgress, no_progress
from mergenode.adapters.checkpoints.json_scan import JsonFault, parse_small
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import read_small, trusted_root
from mergenode.adapters.checkpoints.survey import survey_of
from mergenode.adapters.checkpoints.tied import tied_names
from mergenode.adapters.checkpoints.weights import DEFAULT_LIMITS, open_weights
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.maths.threads import one_thread
from mergenode.types import Digest, DType, TensorSpec

_SCHEMA = "mergenode.base/1"


@dataclass(frozen=True)
class BaseModel:
    """What contributions are held against. Holds no weights, keeps no file open."""

    specs: Mapping[str, TensorSpec]
    """Every stored tensor, aliases too, in (file, offset) order."""
    aliases: Mapping[str, str]
    """Second names of tied weights: alias -> primary. Both are in ``specs``."""
    digest: Digest
    """Content digest: the identity of the base."""
    tensor_digests: Mapping[str, Digest]
    matrix_norm: float
    """Frobenius norm over all float tensors with at least two dimensions, aliases not counted twice (fp64)."""
    squared_norms: Mapping[str, float]
    """Squared Frobenius norm of every float tensor (fp64)."""

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back to an equal value."""
        return json.dumps(
            {
                "schema": _SCHEMA,
                "specs": [[spec.name, spec.dtype.value, list(spec.shape)] for spec in self.specs.values()],
                "aliases": dict(self.aliases),
                "digest": self.digest,
                "tensor_digests": dict(self.tensor_digests),
                "matrix_norm": self.matrix_norm.hex(),
                "squared_norms": {name: square.hex() for name, square in self.squared_norms.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> BaseModel:
        """Reads what ``to_json`` wrote. ValueError when it is anything else (an older cache, for example)."""
        try:
            found: Any = json.loads(text)
            if found["schema"] != _SCHEMA:
                raise ValueError(f"schema {found['schema']!r} is not {_SCHEMA!r}")
            specs = [TensorSpec(name, DType(dtype), tuple(shape)) for name, dtype, shape in found["specs"]]
            return cls(
                specs={spec.name: spec for spec in specs},
                aliases=dict(found["aliases"]),
                digest=Digest(found["digest"]),
                tensor_digests={name: Digest(value) for name, value in found["tensor_digests"].items()},
                matrix_norm=float.fromhex(found["matrix_norm"]),
                squared_norms={name: float.fromhex(value) for name, value in found["squared_norms"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is not a description of a base model: {error!r}") from error


def describe_base(
    path: Path,
    *,
    root: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: ByteProgress = no_progress,
) -> BaseModel:
    """Read the base once, with one buffer of 4 MiB, and say what it holds.

    The operator chose the base, so links inside a snapshot of the Hugging Face cache are followed (``trusted_root``).

    Raises:
        RejectedError: as ``open_weights``; NOT_FINITE when a float tensor holds NaN or an infinity; NO_WEIGHTS when
            the path is an adapter.
        TransientError: as ``open_weights``; CHANGED_WHILE_READING when it changed during the pass.
    """
    root = trusted_root(path) if root is None else root
    with open_weights(path, root=root, limits=limits) as weights:
        if weights.adapter:
            raise RejectedError(
                RejectReason.NO_WEIGHTS,
                f"{path}: is an adapter, not a base model",
                hint="Name the directory of the model that the adapter was trained on.",
            )
        with one_thread():
            survey = survey_of(weights, progress)
        weights.assert_unchanged()
        separate = _tying_denied(path, root, limits)
        aliases = {} if separate else tied_names(weights.specs, survey.digests, frozenset(survey.constant))
        matrices = [spec.name for spec in weights.specs.values() if len(spec.shape) >= 2 and spec.name not in aliases]
        squares = [survey.squared_norms[name] for name in matrices if name in survey.squared_norms]
        return BaseModel(
            specs=dict(weights.specs),
            aliases=aliases,
            digest=survey.content.finish(),
            tensor_digests=survey.digests,
            matrix_norm=math.sqrt(math.fsum(squares)),  # fsum: the same whatever the order of the tensors
            squared_norms=survey.squared_norms,
        )


def _tying_denied(path: Path, root: Path, limits: Limits) -> bool:
    """Whether ``config.json`` says that equal embeddings are separate parameters."""
    if not path.is_dir():
        return False
    shown = f"{path.name}/config.json"
    try:
        text = read_small(
            path / "config.json",
            root=root,
            shown=shown,
            max_bytes=limits.config_bytes,
            too_large=RejectReason.CONFIG_INVALID,
        )
        config = parse_small(text)
    except TransientError as error:
        if error.reason is TransientReason.VANISHED:
            return False
        raise
    except JsonFault as error:
        raise RejectedError(
            RejectReason.CONFIG_INVALID, f"{shown}: {error}", hint="Download the base again."
        ) from error
    return isinstance(config, dict) and config.get("tie_word_embeddings") is False
