"""The state of the round under way and its weights, below ``state/rounds``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.durable import disk_errors, replace_file, sync_directory
from mergenode.errors import FatalError
from mergenode.ledger.round_state import RoundState, parse_state, state_text

STATE = "round.json"
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FolderRounds:
    """Implements ports.rounds.RoundStore in ``state/rounds``; names are plain names that the daemon made."""

    folder: Path

    def prepare(self) -> None:
        """Make the folder. Idempotent."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_directory(self.folder.parent)

    def load(self) -> RoundState | None:
        place = self.folder / STATE
        try:
            text = place.read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise FatalError(f"{place}: cannot be read: {error}", hint="Restore it from a backup.") from error
        return parse_state(text, str(place))

    def save(self, state: RoundState) -> None:
        with disk_errors(self.folder):
            replace_file(self.folder / STATE, state_text(state).encode("ascii"))

    def path(self, name: str) -> Path:
        return self.folder / name

    def staging(self, name: str) -> Path:
        return self.folder / f".new-{name}"

    def install(self, name: str) -> None:
        with disk_errors(self.folder):
            os.replace(self.staging(name), self.path(name))
            sync_directory(self.folder)

    def keep(self, source: Path, name: str) -> None:
        staging = self.staging(name)
        with disk_errors(self.folder):
            staging.unlink(missing_ok=True)
            try:
                os.link(source, staging)
            except OSError:  # another file system, or one without links
                with open(source, "rb") as original, open(staging, "wb") as copy:
                    shutil.copyfileobj(original, copy, _COPY_BYTES)
                    copy.flush()
                    os.fsync(copy.fileno())
        self.install(name)

    def tidy(self, names: Sequence[str]) -> None:
        keep = {STATE, *names}
        with disk_errors(self.folder):
            for path in self.folder.iterdir():
                if path.name not in keep:
                    path.unlink(missing_ok=True)
