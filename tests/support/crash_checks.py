"""What must hold after a kill, and what must hold at the end: read from the files, without asking the node."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.ledger.records import Duplicate, Folded, Rejected
from tests.support.crash_world import Site

Files = dict[str, str]
"""Relative path -> SHA-256."""


def files_of(folder: Path) -> Files:
    """Digest of every file below a directory."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Outcomes:
    """What the ledger says happened, in order."""

    folded: tuple[tuple[str, str, str], ...]
    """Name, content and lineage."""
    rejected: tuple[str, ...]
    duplicates: tuple[str, ...]


def outcomes_of(site: Site) -> Outcomes:
    reader = open_reader(site.state / "ledger.sqlite")
    try:
        facts = [fact for _, fact in reader.facts()]
    finally:
        reader.close()
    return Outcomes(
        folded=tuple((f.name, f.content, f.lineage) for f in facts if isinstance(f, Folded)),
        rejected=tuple(f.name for f in facts if isinstance(f, Rejected)),
        duplicates=tuple(f.name for f in facts if isinstance(f, Duplicate)),
    )


@dataclass(frozen=True)
class Undisturbed:
    """The truth to compare with: every version that an undisturbed node published, and what it recorded."""

    versions: dict[str, Files]
    outcomes: Outcomes
    keep: int = 2

    @property
    def kept(self) -> list[str]:
        return sorted(self.versions)[-self.keep :]


def latest_of(site: Site) -> str:
    """Name of the version behind ``latest``, empty when there is none."""
    link = site.published / "latest"
    return os.readlink(link) if os.path.lexists(link) else ""


def faults_visible(site: Site, truth: Undisturbed, floor: str = "") -> list[str]:
    """What a reader of ``published`` could see that is wrong. ``floor``: what ``latest`` was before."""
    if not site.published.is_dir():
        return []
    found = []
    latest = latest_of(site)
    if latest < floor:
        found.append(f"latest went back from {floor} to {latest or 'nothing'}")
    if latest and latest not in truth.versions:
        found.append(f"latest points at {latest}")
    for path in site.published.iterdir():
        if not path.name.startswith(".") and path.name != "latest" and files_of(path) != truth.versions.get(path.name):
            found.append(f"{path.name} is visible and not what was published: {sorted(files_of(path))}")
    if latest in truth.versions and not (site.published / latest).is_dir():
        found.append(f"latest points at {latest}, which is not there")
    return found


def faults_at_end(site: Site, truth: Undisturbed) -> list[str]:
    """What differs from the undisturbed run once the node ended by itself: versions, facts, leftovers."""
    found = faults_visible(site, truth)
    expected = [*truth.kept, "latest"]
    if (names := sorted(path.name for path in site.published.iterdir())) != sorted(expected):
        found.append(f"published holds {names}, not {expected}")
    if latest_of(site) != truth.kept[-1]:
        found.append(f"latest points at {latest_of(site)}, not {truth.kept[-1]}")
    if (outcomes := outcomes_of(site)) != truth.outcomes:
        found.append(f"the ledger tells {outcomes}, not {truth.outcomes}")
    generation = f"g{len(truth.outcomes.folded):08d}"
    allowed = {"base.json", "exported.json", "ledger.sqlite", "lock", "requests", "statistics"}
    allowed |= {f"statistics/{generation}"}
    present = {str(path.relative_to(site.state)) for path in site.state.rglob("*")}
    strays = {name for name in present - allowed if not name.startswith(f"statistics/{generation}/")}
    strays -= {"ledger.sqlite-wal", "ledger.sqlite-shm"}  # a reader leaves them, the next writer takes them over
    strays |= {name for name in present if "/." in f"/{name}"}
    if strays or not allowed <= present:
        found.append(f"state holds {sorted(strays)} and lacks {sorted(allowed - present)}")
    return found


def finished_shards(site: Site) -> tuple[dict[str, tuple[int, int]], str]:
    """Inode and modification time of the shards that count in the folding folder, and the plan they belong to."""
    folding = site.state / "folding"
    plan = folding / "plan.json"
    if not plan.exists():
        return {}, ""
    found = {}
    for record in folding.glob("shard-*.json"):
        shard = record.with_suffix(".safetensors")
        if shard.exists():
            status = shard.stat()
            found[shard.name] = (status.st_ino, status.st_mtime_ns)
    return found, plan.read_text()
