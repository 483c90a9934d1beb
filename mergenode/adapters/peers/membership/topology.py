"""Whom this node calls: what the settings say, or what an operator said since."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.ports.administration import Neighbour
from mergenode.wire.membership import MOST_NEIGHBOURS
from mergenode.wire.views import is_address

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Topology:
    """``generation`` 0 is that of the settings, where addresses may be dns:name:port and callers are called back."""

    generation: int
    neighbours: tuple[Neighbour, ...]


class TopologyFile:
    """The topology that an operator set, for as long as the settings say what they said then."""

    def __init__(self, file: Path, configured: Sequence[str], report: Callable[[str, str], None]) -> None:
        """``report``: level and words for the log."""
        self._file, self._configured, self._report = file, list(configured), report

    def read(self) -> Topology:
        """What was written last; that of the settings when there is none, they changed, or the file is damaged."""
        from_settings = Topology(0, tuple(Neighbour(entry) for entry in self._configured))
        try:
            document = json.loads(self._file.read_text("utf-8"))
            if document["configured"] != self._configured:
                self._report("info", f"{self._file}: the neighbours in the settings changed, they hold")
                return from_settings
            found = [
                Neighbour(str(entry["address"]), UUID(entry["node_id"]) if entry["node_id"] else None)
                for entry in document["neighbours"][:MOST_NEIGHBOURS]
            ]
            return Topology(int(document["generation"]), tuple(each for each in found if is_address(each.address)))
        except FileNotFoundError:
            return from_settings
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._report("error", f"{self._file}: not a topology ({error}); that of the settings holds")
            return from_settings

    def write(self, topology: Topology) -> None:
        """Durability: synced on return. Raises TransientError: the one before stays."""
        document = {
            "schema": _SCHEMA,
            "configured": self._configured,
            "generation": topology.generation,
            "neighbours": [
                {"address": each.address, "node_id": str(each.node_id) if each.node_id else None}
                for each in topology.neighbours
            ],
        }
        with disk_errors(self._file):
            replace_file(self._file, json.dumps(document, indent=1).encode())
