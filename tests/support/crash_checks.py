"""What must hold after a kill, and what must hold at the end: read from the files, without asking the node."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.ledger.records import Duplicate, Folded, Quarantined, Rejected, Released, Restated, Retracted
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
    retracted: tuple[str, ...]
    restated: tuple[tuple[object, ...], ...]
    """Generation, count, how, start, version rolled back to, statistics and lineage."""
    members: tuple[str, ...]
    quarantined: tuple[str, ...] = ()
    released: tuple[str, ...] = ()


def outcomes_of(site: Site) -> Outcomes:
    with closing(open_reader(site.state / "ledger.sqlite")) as reader:
        facts = [fact for _, fact in reader.facts()]
        members = tuple(member.name for _, member in reader.members())
    return Outcomes(
        folded=tuple((f.name, f.content, f.lineage) for f in facts if isinstance(f, Folded)),
        rejected=tuple(f.name for f in facts if isinstance(f, Rejected)),
        duplicates=tuple(f.name for f in facts if isinstance(f, Duplicate)),
        retracted=tuple(f.name for f in facts if isinstance(f, Retracted)),
        restated=tuple(
            (f.generation, f.count, f.how, f.start, f.rollback_to, f.statistics, f.lineage)
            for f in facts
            if isinstance(f, Restated)
        ),
        members=members,
        quarantined=tuple(f.name for f in facts if isinstance(f, Quarantined)),
        released=tuple(f.name for f in facts if isinstance(f, Released)),
    )


@dataclass(frozen=True)
class Undisturbed:
    """The truth to compare with: every version that an undisturbed node published, and what it recorded."""

    versions: dict[str, Files]
    outcomes: Outcomes
    snapshots: frozenset[str] = frozenset()
    """Generations that are kept beside the current one."""
    keep: int = 2

    @property
    def kept(self) -> list[str]:
        return sorted(self.versions)[-self.keep :]

    @property
    def generation(self) -> str:
        """The current one: every fold and every restatement makes one."""
        return f"g{len(self.outcomes.folded) + len(self.outcomes.restated):08d}"


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
    found += faults_in_state(site, {truth.generation, *truth.snapshots})
    return found


def faults_in_state(site: Site, generations: set[str]) -> list[str]:
    """Files that should not be in the state directory of a node at rest, and files that should."""
    folders = {f"statistics/{generation}" for generation in generations}
    allowed = {"base.json", "exported.json", "ledger.sqlite", "lock", "requests", "statistics", *folders}
    present = {str(path.relative_to(site.state)) for path in site.state.rglob("*")}
    strays = {name for name in present - allowed if os.path.dirname(name) not in folders}
    strays -= {"changes"}  # a request made it; once answered, nothing is in it
    strays -= {"ledger.sqlite-wal", "ledger.sqlite-shm"}  # a reader leaves them, the next writer takes them over
    strays |= {name for name in present if "/." in f"/{name}"}
    if not strays and allowed <= present:
        return []
    return [f"state holds {sorted(strays)} and lacks {sorted(allowed - present)}"]


def finished_shards(site: Site) -> tuple[dict[str, tuple[int, int]], str]:
    """Inode and modification time of the shards that count in the folding folder, and the plan they belong to."""
    folders = [site.state / "replaying" / "folding", site.state / "folding"]
    folding = next((folder for folder in folders if (folder / "plan.json").exists()), None)
    if folding is None:
        return {}, ""
    found = {}
    for record in folding.glob("shard-*.json"):
        shard = record.with_suffix(".safetensors")
        if shard.exists():
            status = shard.stat()
            found[shard.name] = (status.st_ino, status.st_mtime_ns)
    return found, (folding / "plan.json").read_text()
