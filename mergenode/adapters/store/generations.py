"""Statistics on disk: the folding folder and one folder per committed generation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.durable import disk_errors, free_bytes, remove_tree, rename_directory, tree_bytes
from mergenode.errors import FatalError
from mergenode.ledger.snapshots import kept_generations


@dataclass(frozen=True, slots=True)
class FolderGenerations:
    """Implements ports.generations.Generations below the state directory.

    ``every`` and ``keep``: which earlier generations stay, see ``ledger.snapshots.kept_generations``.
    """

    state: Path
    every: int = 0
    keep: int = 0

    @property
    def folding(self) -> Path:
        return self.state / "folding"

    @property
    def statistics(self) -> Path:
        return self.state / "statistics"

    def folder(self, generation: int) -> Path:
        return self.statistics / f"g{generation:08d}"

    def prepare(self) -> None:
        """Create the directories of a new state. Idempotent."""
        with disk_errors(self.state):
            self.statistics.mkdir(parents=True, exist_ok=True)

    def install(self, generation: int) -> None:
        with disk_errors(self.state):
            rename_directory(self.folding, self.folder(generation))

    def recover(self, current: int) -> list[str]:
        done: list[str] = []
        with disk_errors(self.state):
            self._remove_strays()
            kept = self._kept(current)
            for generation in self._present():
                path = self.folder(generation)
                if generation > current:
                    remove_tree(self.folding)
                    rename_directory(path, self.folding)
                    done.append(f"generation {generation} was finished but not committed: it is taken up again")
                elif generation < current and generation not in kept:
                    remove_tree(path)
                    done.append(f"removed the statistics of generation {generation}, superseded by {current}")
        if current and not self.folder(current).is_dir():
            raise FatalError(
                f"{self.folder(current)}: the statistics of generation {current}, which the ledger names, are missing",
                hint="Restore the state directory from a backup, or start a new one and let it fold again.",
            )
        return done

    def retire(self, current: int) -> None:
        with disk_errors(self.state):
            self._remove_strays()
            kept = self._kept(current)
            for generation in self._present():
                if generation < current and generation not in kept:
                    remove_tree(self.folder(generation))

    def snapshots(self, current: int) -> tuple[int, ...]:
        with disk_errors(self.state):
            return tuple(sorted(self._kept(current)))

    def discard(self) -> None:
        with disk_errors(self.state):
            remove_tree(self.folding)

    def sizes(self) -> tuple[int, int]:
        with disk_errors(self.state):
            return tree_bytes(self.statistics) + tree_bytes(self.folding), free_bytes(self.state)

    def _remove_strays(self) -> None:
        """What an interrupted removal left under its hidden name, and the scratch of an interrupted export."""
        interrupted = (*self.state.glob(".*.removing"), self.state / ".exporting")
        for stray in (*self.statistics.glob(".g*.removing"), *interrupted):
            remove_tree(stray)

    def _present(self) -> list[int]:
        numbers = (self._number(path) for path in self.statistics.iterdir())
        return sorted(number for number in numbers if number is not None)

    def _kept(self, current: int) -> frozenset[int]:
        return kept_generations(self._present(), current, every=self.every, keep=self.keep)

    def _number(self, path: Path) -> int | None:
        """The generation of this folder; None for everything that ``folder`` does not name."""
        digits = path.name[1:]
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
        return number if number is not None and self.folder(number) == path else None
