"""The parts of other nodes on disk, and the sum of all of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from math import fsum, sqrt
from pathlib import Path
from typing import Any

from mergenode.adapters.durable import disk_errors, replace_file, sync_directory
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.checked_statistics import CheckedStatistics, HashedStatistics
from mergenode.adapters.engines.local.combine import NO_LINKS
from mergenode.adapters.engines.local.combine_pass import CombinePass
from mergenode.adapters.engines.local.engine import LocalEngine, run_observed
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.part_check import AdmissionPass, check_names, check_norm, check_totals
from mergenode.adapters.engines.local.part_file import PartFile, write_text
from mergenode.adapters.engines.local.report import all_tensors
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.errors import FatalError, MergenodeError, RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.part_codec import decode_part, encode_part, same_merge
from mergenode.ledger.union import Node, Part, Selection
from mergenode.ports.exchange import Arrived
from mergenode.ports.observer import Observer
from mergenode.ports.restater import Restatement
from mergenode.types import Digest, Head

PARTS = "parts"
_TEXT = ".part.safetensors"


@dataclass(frozen=True, slots=True)
class LocalUniter:
    """Implements ``Uniter``. ``own``: the engine of the own merge; ``union``: that of the union, below ``state``.

    ``state/parts/NODE-ROOT.safetensors`` is a part as it arrived, the JSON file beside it what was found out about it.
    """

    own: LocalEngine
    union: LocalEngine
    state: Path
    observer: Observer

    @property
    def folder(self) -> Path:
        return self.state / PARTS

    def check_memory(self) -> None:
        """Raises FatalError when the memory limit cannot hold the addition of two parts, or the check of one."""
        with self.own.open_base() as files:
            empty = Part(node="", base=self.own.base.digest, method=self.own.method.name, options={})
            fields = self._fields(files, self.folder)
            self.own.window(CombinePass(**fields, sides=()), 0)
            # Of the file nothing is read: the pass is asked what its steps would need.
            self.own.window(AdmissionPass(**fields, sides=(), file=None, part=empty, layouts={}), 0)  # type: ignore[arg-type]  # no file yet

    # ---- parts of others

    def heard(self) -> Sequence[Part]:
        with disk_errors(self.folder):
            if not self.folder.is_dir():
                return ()
            found = [self._recalled(path) for path in sorted(self.folder.glob("*.json"))]
        return [part for part in found if part is not None]

    def _recalled(self, path: Path) -> Part | None:
        try:
            noted = json.loads(path.read_bytes())
            with closing(PartFile(path.with_suffix(".safetensors"), self.own.limits)) as file:
                part = decode_part(file.text())
            incarnation, seq = noted["position"]
            return replace(part, position=(incarnation, seq), root=noted["root"], norm=noted["norm"])
        except (OSError, ValueError, KeyError, TypeError, MergenodeError) as error:
            self.observer.message("warning", f"{path}: a part is not readable and is heard again: {error}")
            return None

    def admit(self, arrived: Arrived, others: Collection[Part]) -> Part:
        node, root = str(arrived.head.node_id), arrived.head.root.hex()
        place = self._place(node, root)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _take_over(arrived.weights, place)
        try:
            return self._checked(place, arrived, {part.node: part for part in others if part.node != node})
        except RejectedError:
            with disk_errors(self.folder):
                place.unlink(missing_ok=True)
            raise

    def _checked(self, place: Path, arrived: Arrived, others: Mapping[Node, Part]) -> Part:
        engine = self.own
        with closing(PartFile(place, engine.limits)) as file, engine.open_base() as base_files:
            part = decode_part(file.text())
            if part.node != str(arrived.head.node_id):
                raise RejectedError(RejectReason.HEADER_INVALID, f"it says that it is the part of node {part.node}")
            if problem := same_merge(
                part, base=engine.base.digest, method=engine.method.name, options=engine.method.options
            ):
                raise RejectedError(RejectReason.OTHER_BASE, problem)
            specs = {spec.name: spec for specs in shard_layout(engine.base) for spec in specs}
            layouts = check_names(file, part, specs, engine.method)
            check_totals(part, engine.method)
            fields = self._fields(base_files, self.folder)
            work = AdmissionPass(**fields, sides=(), file=file, part=part, layouts=layouts)
            self._run(work, ("check", f"part of {part.node[:8]}"), self.observer)
            digest = _digest(part.last, part.totals, {name: work.digests.get(name, {}) for name in specs})
            if part.statistics is not None and digest != part.statistics:
                raise RejectedError(
                    RejectReason.DIGEST_MISMATCH, f"its statistics are {digest}, not {part.statistics} as it says"
                )
            if part.statistics is None and part.entries:
                raise RejectedError(RejectReason.HEADER_INVALID, "it names contributions and no statistics")
            part = replace(part, position=arrived.head.position, root=arrived.head.root.hex(), norm=work.norm)
            check_norm(part, others, sqrt(fsum(engine.base.squared_norms[name] for name in specs)))
        noted = {"position": list(part.position), "root": part.root, "norm": part.norm, "digests": work.digests}
        with disk_errors(self.folder):
            replace_file(place.with_suffix(".json"), journal.canonical(noted))
        return part

    def keep(self, parts: Collection[Part]) -> None:
        names = {self._place(part.node, part.root).stem for part in parts}
        with disk_errors(self.folder):
            for path in [*self.folder.iterdir()] if self.folder.is_dir() else []:
                if path.name.partition(".")[0] not in names:
                    path.unlink()

    # ---- the own part

    def present(self, part: Part, head: Head) -> Sequence[Path]:
        files: list[Path] = []
        if head.generation:
            folder = self.own.generation_folder(head.generation)
            manifest = journal.load_manifest(folder)
            part = replace(part, last=manifest["content"])
            for index in range(manifest["shards"]):
                if journal.load_record(folder, index)["bytes"] is not None:
                    files.append(folder / journal.shard_file(index))
        with disk_errors(self.state):
            write_text(self.state / _TEXT, encode_part(part))
        return [*files, self.state / _TEXT]

    # ---- the sum

    def unite(self, selection: Selection, me: Node, own: Head, observer: Observer) -> Restatement:
        engine = self.union
        with disk_errors(engine.folding), engine.open_base() as files, ExitStack() as stack:
            journal.open_folder(engine.folding, self._plan(selection))
            sides = [
                stack.enter_context(closing(self._own(own) if part.node == me else self._others(part)))
                for part in selection.parts
            ]
            work = CombinePass(**self._fields(files, engine.folding), sides=sides)
            self._run(work, ("combine", f"{len(sides)} nodes"), observer)
            with reading_own("base"):
                files.assert_unchanged()
            totals = dict(pooled_totals(engine, selection))
            tensors = {name: tensor["statistics"] for name, tensor in all_tensors(work.records).items()}
            digest = _digest(None, totals, tensors)
            manifest: dict[str, Any] = {"statistics": digest, "content": None, "totals": totals, "groups": []}
            manifest["shards"] = len(work.records)
            replace_file(engine.folding / journal.MANIFEST, journal.canonical(manifest))
            return Restatement(digest, totals, work.bytes_read, work.bytes_written)

    def _own(self, head: Head) -> HashedStatistics:
        return CheckedStatistics(self.own.generation_folder(head.generation), head.statistics)

    def _others(self, part: Part) -> HashedStatistics:
        place = self._place(part.node, part.root)

        def damaged(problem: str) -> MergenodeError:
            place.with_suffix(".json").unlink(missing_ok=True)
            return TransientError(TransientReason.READ_FAILED, f"{place}: {problem}; it is removed and heard again")

        try:
            digests = json.loads(place.with_suffix(".json").read_bytes())["digests"]
            return HashedStatistics(PartFile(place, self.own.limits, digests), damaged)
        except (OSError, ValueError, KeyError, RejectedError) as error:
            raise damaged(str(error)) from error

    def _plan(self, selection: Selection) -> dict[str, Any]:
        return {
            "united": [[part.node, part.statistics] for part in selection.parts],
            "base": self.union.base.digest,
            "method": self.union.method.name,
            "options": {name: repr(value) for name, value in self.union.method.options.items()},
        }

    def _fields(self, files: Any, folder: Path) -> dict[str, Any]:
        return {
            "base": self.own.base,
            "base_files": files,
            "sources": [],
            "method": self.own.method,
            "folder": folder,
            "previous": None,
            "device": self.own.resources.torch_device(),
        }

    def _run(self, work: CombinePass, subject: tuple[str, str], observer: Observer) -> None:
        engine = self.own
        window = engine.window(work, 0)
        run_observed(work.steps(), work, engine.base, window, subject, observer, engine.resources.threads, engine.stop)

    def _place(self, node: Node, root: str) -> Path:
        return self.folder / f"{node}-{root[:32]}.safetensors"


def pooled_totals(engine: LocalEngine, selection: Selection) -> Mapping[str, float]:
    """Totals of all parts, in their order; what an earlier part counts as well is taken out of the later one."""
    pool, withdraw = engine.method.pool, engine.method.withdraw
    totals: Mapping[str, float] = {}
    for part in selection.parts:
        mine = part.totals
        for content in selection.repeated.get(part.node, ()):
            assert withdraw is not None  # it goes with ``idempotent``
            entry = part.entries[content]
            mine = withdraw(mine, {"delta_sq": entry.norm**2}, entry.weight)
        if pool is None:
            raise FatalError(f"method {engine.method.name} cannot be combined")  # refused when the node was started
        totals = pool(totals, mine)
    return totals


def _digest(last: Digest | None, totals: Mapping[str, float], tensors: Mapping[str, Any]) -> Digest:
    return journal.digest_of({"content": last, "totals": dict(totals), "tensors": dict(tensors)})


def _take_over(source: Path, place: Path) -> None:
    """Give the file a second name, or copy it where the file system cannot. Durable on return."""
    temporary = place.with_name(f".{place.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(source, "rb") as original, open(temporary, "wb") as copy:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
    os.replace(temporary, place)
    sync_directory(place.parent)
