"""Reading statistics that are added up: every byte held against its digest on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from blake3 import blake3
from torch import Tensor

from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.report import all_tensors
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.tensors import as_bytes
from mergenode.errors import FatalError, MergenodeError
from mergenode.types import TensorSpec


class Stored(Protocol):
    """Statistics as they lie on disk, see ``StatisticsFiles``."""

    def digests(self, tensor: str) -> Mapping[str, str]: ...

    def read(self, tensor: str, bounds: tuple[int, int] | None) -> dict[str, Tensor]: ...

    def close(self) -> None: ...


class HashedStatistics:
    """Statistics whose digests are known. Used by one thread. ``damaged`` makes the error for what is not as recorded.

    Owns ``stored``.
    """

    def __init__(self, stored: Stored, damaged: Callable[[str], MergenodeError]) -> None:
        self._stored, self._damaged = stored, damaged
        self._hashers: dict[tuple[str, str], Any] = {}

    def is_empty(self, tensor: str) -> bool:
        """Whether nothing was folded into this tensor."""
        return not self._stored.digests(tensor)

    def read(self, spec: TensorSpec, part: tuple[int, int] | None) -> dict[str, Tensor]:
        """The next slice of a tensor's statistics, flat; each whole, in its own shape, with ``part`` None.

        Slices are read in order. Raises the error of ``damaged`` at the last one when the bytes are not those that were
        recorded.
        """
        try:
            found = self._stored.read(spec.name, part)
        except (KeyError, ValueError) as error:
            raise self._damaged(f"the statistics of {spec.name!r} are not as recorded ({error})") from error
        for name, tensor in found.items():
            hasher = self._hashers.setdefault((spec.name, name), blake3())
            hasher.update(as_bytes(tensor))
            if part is None or part[1] == spec.numel:
                read = f"blake3:{self._hashers.pop((spec.name, name)).hexdigest()}"
                if read != self._stored.digests(spec.name)[name]:
                    raise self._damaged(f"statistic {name!r} of {spec.name!r} has not the recorded digest")
        return found

    def close(self) -> None:
        """Release descriptors. Idempotent."""
        self._stored.close()


class CheckedStatistics(HashedStatistics):
    """The statistics of a generation. Damage is a FatalError: they are the node's own, or another state's."""

    def __init__(self, folder: Path, expected: str | None, shown: Path | None = None) -> None:
        """Raises FatalError when the records are not those whose digest is ``expected``: the ledger names it.

        ``shown``: where errors say that they lie, if ``folder`` is only a second name of that place.
        """
        place = shown or folder
        manifest = journal.load_manifest(folder)
        records = {index: journal.load_record(folder, index) for index in range(manifest["shards"])}
        tensors = {name: tensor["statistics"] for name, tensor in all_tensors(records).items()}
        identity = {"content": manifest["content"], "totals": manifest["totals"], "tensors": tensors}
        if journal.digest_of(identity) != expected:
            raise _damaged(place, f"the records do not add up to the digest in the ledger ({expected})")
        self.folder, self.totals = folder, dict(manifest["totals"])
        super().__init__(StatisticsFiles(folder, records), lambda problem: _damaged(place, problem))


def _damaged(folder: Path, what: str) -> FatalError:
    return FatalError(
        f"{folder}: {what}",
        hint="Run `mergenode verify` on that node; damaged statistics have to be restored from a backup.",
    )
