"""Measures what gates look at, for every honest and harmful checkpoint of a split, and keeps it as JSON."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks.quality.tasks import load_task
from benchmarks.selection.experts import folder
from benchmarks.selection.gate_suite import BACKDOOR, SPLITS, Split, harmful, train_for_gates, triggered
from benchmarks.selection.probe import Probe
from benchmarks.selection.running_merge import RunningMerge
from benchmarks.selection.vectors import Weights, open_space
from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.engines.local.inspection import inspect
from mergenode.adapters.signatures.keys import make_key, word_of
from mergenode.adapters.signatures.signing import check_signature, sign_checkpoint
from mergenode.errors import RejectedError
from mergenode.gates.evidence import Descent, Evidence, SignatureEvidence, joined, of_fold, with_history

FROZEN_PATTERNS = ("*word_embeddings*",)
"""What the operator of this suite declares frozen."""

EVALUATED_ROWS = 200
METHOD = "opcm"
HONEST = "honest"


@dataclass(frozen=True, slots=True)
class Trial:
    """One checkpoint against one running merge."""

    split: str
    kind: str
    name: str
    path: Path
    members: tuple[Path, ...]


class Bench:
    """Everything of one split."""

    def __init__(self, work: Path, split: Split) -> None:
        self.work, self.split = work, split
        self.base = work / "base"
        self.space = open_space(self.base)
        self.described: BaseModel = describe_base(self.base, limits=Limits(), progress=lambda done, total: None)
        self.gradient_probe = Probe(self.base, seed=5000 + split.seed)
        self.score_probe = Probe(self.base, seed=6000 + split.seed, rows=EVALUATED_ROWS)
        self._norms: dict[Path, dict[str, float]] = {}

    def trials(self) -> list[Trial]:
        """Newcomers and harmful ones against all members; each member against the others."""
        experts = folder(self.work)
        members = tuple(experts / name for name in self.split.members)
        newcomers = (*self.split.newcomers, *(f"strong-{name}" for name in self.split.strong))
        honest = [Trial(self.split.name, HONEST, name, experts / name, members) for name in newcomers]
        bad = [Trial(self.split.name, kind, kind, path, members) for kind, path in harmful(self.split, self.work)]
        rest = [
            Trial(self.split.name, HONEST, path.name, path, tuple(other for other in members if other != path))
            for path in members
        ]
        return [*honest, *bad, *rest]

    def norms(self, member: Path) -> dict[str, float]:
        """Norms of a member by group, as the ledger has them."""
        if member not in self._norms:
            found = inspect(self.base, member, needs=(), base=self.described)
            self._norms[member] = {name: group.norm for name, group in found.groups.items()}
        return self._norms[member]

    def history(self, members: Sequence[Path]) -> dict[str, tuple[float, ...]]:
        """Group -> the members' norms."""
        told = [self.norms(member) for member in members]
        return {group: tuple(norms[group] for norms in told) for group in told[0]}


class Against:
    """One running merge, its scores and the gradient of the objective at it.

    ``task``: whether the plug-in is asked, for scores and gradient. Not where members are tried again, to save time.
    """

    def __init__(self, bench: Bench, members: tuple[Path, ...], *, task: bool) -> None:
        self._bench, self.members = bench, members
        merging = bench.work / f"gate-merge-{bench.split.name}"
        self.merge = RunningMerge(bench.base, bench.described, members, METHOD, merging)
        published = load_file(self.merge.version / "model.safetensors")
        self.before = bench.score_probe.accuracies(published) if task else None
        self.gradient = bench.gradient_probe.gradient(published, bench.space)[1].double() if task else None

    def evidence(self, trial: Trial) -> tuple[Evidence, dict[str, float]]:
        """All evidence about a newcomer, and CPU seconds of its parts."""
        clock = [time.process_time()]
        found = inspect(
            self._bench.base, trial.path, frozen=FROZEN_PATTERNS, merge_path=self.merge.version,
            base=self._bench.described,
        )  # fmt: skip
        clock.append(time.process_time())
        after: Mapping[str, float] | None = None
        try:
            result, would_be = self.merge.tried(trial.path)
        except RejectedError:
            pass
        else:
            found = joined(of_fold(result), found)
            clock.append(time.process_time())
            if self.before is not None:
                after = self._bench.score_probe.accuracies(load_file(would_be / "model.safetensors"))
        clock.append(time.process_time())
        found = replace(
            with_history(found, self._bench.history(self.members)),
            scores_before=self.before if after is not None else None,
            scores_after=after,
            descent=self._descent(trial.path),
        )
        return found, {"inspection": clock[1] - clock[0], "rest": clock[-1] - clock[1]}

    def _descent(self, path: Path) -> Descent | None:
        if self.gradient is None:
            return None
        space = self._bench.space
        tuned = load_file(path / "model.safetensors")
        delta = space.flatten({name: tensor - space.base[name] for name, tensor in tuned.items()}).double()
        return Descent(
            inner=float(self.gradient @ delta),
            gradient_norm=sqrt(float(self.gradient @ self.gradient)),
            delta_norm=sqrt(float(delta @ delta)),
        )


def signed_trials(bench: Bench) -> dict[str, SignatureEvidence]:
    """What the signature of an attacker's expert is worth: with none, of a stranger, on other weights, and honest."""
    places = bench.work / "signed" / bench.split.name
    shutil.rmtree(places, ignore_errors=True)
    places.mkdir(parents=True)
    keys = {name: make_key(places / f"{name}.key") for name in ("operator", "stranger")}
    source = folder(bench.work) / bench.split.attacker
    told = {}
    signers = {HONEST: "operator", "unsigned": "", "signed by a stranger": "stranger", "forged": "operator"}
    for kind, key in signers.items():
        checkpoint = places / kind.replace(" ", "-")
        shutil.copytree(source, checkpoint)
        if key:
            sign_checkpoint(checkpoint, keys[key])
        if kind == "forged":
            shutil.copyfile(bench.work / "base" / "model.safetensors", checkpoint / "model.safetensors")
        told[kind] = check_signature(checkpoint, registry="inbox", trusted=[word_of(keys["operator"].public_key())])
    shutil.rmtree(places)
    return told


def backdoor_success(bench: Bench, models: Mapping[str, Weights]) -> dict[str, float]:
    """Share of test texts of other classes that the trigger sends to the attacker's class, by model."""
    task = load_task(bench.split.poisoned[0])
    rows = [(triggered(text), label) for text, label in task.test_rows(None) if label != 0][:EVALUATED_ROWS]
    sent = Probe(bench.base, 0, tasks=(task.name,), given={task.name: [(text, 0) for text, _ in rows]})
    return {name: sent.accuracies(weights)[task.name] for name, weights in models.items()}


def measure(work: Path, say: Callable[[str], None]) -> None:
    """All evidence of both splits, into ``work/gates/evidence.json``. What is there is not measured again."""
    train_for_gates(work, say)
    file = work / "gates" / "evidence.json"
    file.parent.mkdir(exist_ok=True)
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for split in SPLITS:
        bench = Bench(work, split)
        against: Against | None = None
        for trial in bench.trials():
            key = f"{split.name}/{trial.kind}/{trial.name}"
            if key in known:
                continue
            if against is None or against.members != trial.members:
                against = Against(bench, trial.members, task=len(trial.members) == len(split.members))
            evidence, seconds = against.evidence(trial)
            known[key] = {
                "kind": trial.kind,
                "name": trial.name,
                "split": split.name,
                "evidence": asdict(evidence),
                "cpu": seconds,
            }
            file.write_text(json.dumps(known))
            say(f"{key}: {seconds['inspection']:.1f} s and {seconds['rest']:.1f} s")
        if against is not None:
            against.merge.close()
        keep_extra(bench, known, file)


def keep_extra(bench: Bench, known: dict[str, Any], file: Path) -> None:
    """Signatures, and what the backdoor does alone, in the merge of the members, and once it is folded."""
    split = bench.split
    signed = f"{split.name}/signatures"
    if signed not in known:
        known[signed] = {kind: asdict(evidence) for kind, evidence in signed_trials(bench).items()}
    success = f"{split.name}/backdoor"
    if success not in known:
        backdoor = dict(harmful(split, bench.work))[BACKDOOR]
        members = [folder(bench.work) / name for name in split.members]
        merge = RunningMerge(bench.base, bench.described, members, METHOD, bench.work / f"gate-merge-{split.name}")
        models = {"base": bench.base, "the checkpoint": backdoor, "merge of the members": merge.version}
        found = {name: load_file(path / "model.safetensors") for name, path in models.items()}
        found["merge with it"] = load_file(merge.tried(backdoor)[1] / "model.safetensors")
        known[success] = backdoor_success(bench, found)
        merge.close()
    file.write_text(json.dumps(known))
