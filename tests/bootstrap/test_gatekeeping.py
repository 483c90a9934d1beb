"""Gates in a real node on real files: what the ledger tells them, and what a would-be merge scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.store.trial_files import TrialFiles
from mergenode.bootstrap import node as composed
from mergenode.bootstrap.gatekeeping import NodeGatekeeper, norms_of
from mergenode.bootstrap.node import run_node
from mergenode.bootstrap.trials import Trials
from mergenode.errors import FatalError, TransientError, TransientReason, UsageError
from mergenode.gates import build_gate
from mergenode.gates.contract import Action
from mergenode.ledger.records import Quarantined
from mergenode.ledger.view import Policy
from mergenode.settings import load_settings
from mergenode.types import Candidate
from tests.support import facts
from tests.support.checkpoints import write_single
from tests.support.local_node import LocalNode
from tests.support.real_node import RealNode

PLUGIN = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Linear(4, 4, bias=False)

class Near:
    '''Best where the mean weight is 0.6.'''
    def build_model(self):
        return Model()

    def evaluate(self, model):
        return {"nearness": -float((model.w.weight.mean() - 0.6).abs())}

class Raises(Near):
    def evaluate(self, model):
        raise RuntimeError("the test set is gone")
"""
SCORED = {"evaluation": {"action": "quarantine", "max_drop": 0.05}}


def node_with(root: Path, plugin: str | None, gates: Mapping[str, Any]) -> RealNode:
    (root / "plugins").mkdir(parents=True)
    (root / "plugins" / "near_task.py").write_text(PLUGIN)
    task = {"entrypoint": f"near_task:{plugin}", "path": "./plugins"} if plugin else {}
    return RealNode(
        root, tensors={"w.weight": torch.zeros(4, 4)}, method={"name": "task_arithmetic", "scale": 1.0}, task=task,
        validation={"max_relative_norm": None}, gates=gates,
    )  # fmt: skip


def put(node: RealNode, name: str, value: float) -> Path:
    return write_single(node.inbox / name, {"w.weight": torch.full((4, 4), value)})


def test_what_would_make_the_merge_worse_is_held_back(tmp_path: Path) -> None:
    node = node_with(tmp_path, "Near", SCORED)
    put(node, "a", 0.4)  # 0.4: nearer than the base
    assert node.run_once().complete
    put(node, "b", 0.7)  # 1.1: farther
    assert node.run_once().complete
    (held,) = node.facts("quarantined")
    assert isinstance(held, Quarantined)
    assert (held.name, held.gate, held.reason) == ("b", "evaluation", "score_fell")
    assert held.numbers["before"] == pytest.approx(-0.2) and held.numbers["after"] == pytest.approx(-0.5)
    assert [path.name for path in (node.state / "trial").iterdir()] == ["remembered.json"]
    assert not list((node.state / "folding").glob("shard-*")) and node.versions() == [1]
    put(node, "c", 0.2)
    assert node.run_once().complete
    assert [fact.name for fact in node.facts("folded")] == ["a", "c"]  # type: ignore[attr-defined]  # they have names


def test_a_plug_in_that_fails_leaves_the_last_version_and_lets_nothing_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_with(tmp_path, "Near", SCORED)
    put(node, "a", 0.4)
    assert node.run_once().complete
    node.configure(
        method={"name": "task_arithmetic", "scale": 1.0}, validation={"max_relative_norm": None}, gates=SCORED,
        task={"entrypoint": "near_task:Raises", "path": "./plugins"},
    )  # fmt: skip
    put(node, "b", 0.1)
    monkeypatch.setattr(composed, "policy_of", lambda settings: Policy(once_patience_seconds=0.0))
    stop = run_node(load_settings(node.config), once=True)
    assert not stop.complete
    assert len(node.facts("folded")) == 1 and node.facts("quarantined", "rejected") == []
    assert node.versions() == [1] and (node.published / "latest" / "mergenode.json").exists()


def test_a_gate_without_its_plug_in_is_refused_at_the_start(tmp_path: Path) -> None:
    node = node_with(tmp_path, None, SCORED)
    with pytest.raises(UsageError, match=r"gates\.evaluation needs scores: set task\.entrypoint"):
        run_node(load_settings(node.config), once=True)


def test_norms_are_those_of_members_without_their_weights() -> None:
    groups = ({"group": "*", "delta_norm": 4.0}, {"group": "layers.0", "delta_norm": 2.0})
    members = [facts.folded(1, weight=2.0, norm=4.0, groups=groups), facts.admitted(2, weight=0.5, norm=1.5)]
    assert norms_of(members) == {"*": (2.0, 3.0), "layers.0": (1.0,)}
    assert norms_of([facts.folded(1, weight=0.0)]) == {}


# ---- trials, with a plug-in in this process


@dataclass
class Scorer:
    """Scores by the mean weight; its gradient is what it is given."""

    gradient_is: torch.Tensor
    failure: Exception | None = None
    calls: list[str] = field(default_factory=list)

    def evaluate(self, place: Path) -> Mapping[str, float]:
        self._called("evaluate")
        assert (place / "config.json").exists(), "a model needs its side files"
        return {"mean": float(load_file(place / "model.safetensors")["w.weight"].mean())}

    def gradient(self, place: Path, out: Path) -> float:
        self._called("gradient")
        assert (place / "model.safetensors").exists()
        save_file({"w.weight": self.gradient_is}, out)
        return 1.0

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure


class Places:
    """No version is there."""

    def holds(self, version: int) -> bool:
        return False


@dataclass
class Bench:
    """A local node, gates, and one fold that is not committed."""

    node: LocalNode
    scorer: Scorer
    keeper: NodeGatekeeper

    def judge(self, path: Path, weight: float = 1.0) -> tuple[Any, ...]:
        candidate = Candidate("inbox", path.name, "1", str(path), weight=weight)
        result = self.node.engine.fold(candidate, self.node.head, self.node.observer)
        return self.keeper.judge(candidate, self.node.head, result)

    @property
    def trial(self) -> list[str]:
        return sorted(path.name for path in (self.node.root / "state" / "trial").glob("*"))


def bench(root: Path, *gates: tuple[str, Mapping[str, Any], Action], failure: Exception | None = None) -> Bench:
    base = write_single(root / "base", {"w.weight": torch.zeros(4, 4)})
    node = LocalNode(root, base, "task_arithmetic", {"scale": 1.0})
    scorer = Scorer(torch.full((4, 4), 0.5), failure)

    @contextmanager
    def task() -> Iterator[Scorer]:
        yield scorer

    trials = Trials(
        engine=node.engine, publisher=Places(), observer=node.observer,  # type: ignore[arg-type]  # no version is asked for
        files=TrialFiles(root / "state", "task"), open_task=task,
    )  # fmt: skip
    keeper = NodeGatekeeper(
        gates=[build_gate(name, options, action) for name, options, action in gates], engine=node.engine,
        ledger=None, publisher=Places(), trials=trials,  # type: ignore[arg-type]  # not asked
    )  # fmt: skip
    return Bench(node, scorer, keeper)


EVALUATION = ("evaluation", {"max_drop": 0.05}, Action.QUARANTINE)
SIGN = ("frank_wolfe_sign", {}, Action.QUARANTINE)


def checkpoint(root: Path, value: float) -> Path:
    return write_single(root / f"m{value}", {"w.weight": torch.full((4, 4), value)})


def test_one_evaluation_per_contribution_once_the_merge_is_known(tmp_path: Path) -> None:
    made = bench(tmp_path, EVALUATION)
    assert made.judge(checkpoint(tmp_path, 0.25)) == ()
    assert made.scorer.calls == ["evaluate"] * 2, "the base, and the merge with it"
    assert made.judge(checkpoint(tmp_path, 0.25)) == (), "asked again after a kill"
    assert made.scorer.calls == ["evaluate"] * 2
    made.node.fold(checkpoint(tmp_path, 0.25))
    (verdict,) = made.judge(checkpoint(tmp_path, -0.5))
    assert len(made.scorer.calls) == 3
    assert (verdict.action, verdict.reason) == ("quarantine", "score_fell")
    assert verdict.numbers["before"] == pytest.approx(0.25) and verdict.numbers["after"] == pytest.approx(-0.25)
    assert made.trial == ["remembered.json"]


def test_the_merge_before_is_exported_where_it_was_never_scored(tmp_path: Path) -> None:
    made = bench(tmp_path, EVALUATION)
    made.node.fold(checkpoint(tmp_path, 0.25))
    (verdict,) = made.judge(checkpoint(tmp_path, -0.5))
    assert verdict.numbers["before"] == pytest.approx(0.25) and len(made.scorer.calls) == 2


def test_the_slope_at_the_merge_of_now_decides_the_sign(tmp_path: Path) -> None:
    made = bench(tmp_path, SIGN)
    (verdict,) = made.judge(checkpoint(tmp_path, 0.25), weight=2.0)
    assert verdict.reason == "uphill"
    assert verdict.numbers["inner"] == pytest.approx(16 * 0.5 * 0.25), "without the weight"
    assert verdict.numbers["cosine"] == pytest.approx(1.0)
    assert made.judge(checkpoint(tmp_path, -0.25)) == ()
    assert made.scorer.calls == ["gradient"], "one gradient per merge"
    made.node.fold(checkpoint(tmp_path, -0.25))
    made.scorer.gradient_is = -made.scorer.gradient_is
    (verdict,) = made.judge(checkpoint(tmp_path, -0.125))
    assert verdict.numbers["inner"] == pytest.approx(16 * 0.5 * 0.125)
    assert made.scorer.calls == ["gradient"] * 2
    assert made.trial == ["gradient.safetensors", "remembered.json"]


def test_a_gradient_of_another_model_is_tried_again(tmp_path: Path) -> None:
    made = bench(tmp_path, SIGN)
    made.scorer.gradient_is = torch.zeros(2, 8)
    for _ in range(2):
        with pytest.raises(TransientError, match=r"gradient of 'w\.weight' has shape") as raised:
            made.judge(checkpoint(tmp_path, 0.25))
        assert raised.value.reason is TransientReason.TASK_FAILED
    assert made.scorer.calls == ["gradient"] * 2, "nothing that is no good is remembered"


@pytest.mark.parametrize(
    "failure", [TransientError(TransientReason.TASK_FAILED, "it hangs"), FatalError("it lacks evaluate()")]
)
def test_whatever_the_plug_in_does_it_is_tried_again(tmp_path: Path, failure: Exception) -> None:
    made = bench(tmp_path, EVALUATION, failure=failure)
    with pytest.raises(TransientError) as raised:
        made.judge(checkpoint(tmp_path, 0.25))
    assert raised.value.reason is TransientReason.TASK_FAILED
    assert made.trial == []


def test_a_gate_that_only_observes_holds_nobody_up(tmp_path: Path) -> None:
    failure = TransientError(TransientReason.TASK_FAILED, "it hangs", hint="look")
    made = bench(tmp_path, ("evaluation", {}, Action.OBSERVE), failure=failure)
    (verdict,) = made.judge(checkpoint(tmp_path, 0.25))
    assert (verdict.action, verdict.reason, verdict.message) == ("observe", "task_failed", "not judged: it hangs")


def test_what_a_cheap_gate_holds_back_is_not_scored(tmp_path: Path) -> None:
    frozen = ("frozen", {"patterns": ("w.*",)}, Action.QUARANTINE)
    made = bench(tmp_path, frozen, EVALUATION)
    (verdict,) = made.judge(checkpoint(tmp_path, 0.25))
    assert verdict.gate == "frozen" and made.scorer.calls == []


def test_signatures_are_looked_at_beside_what_the_files_say(tmp_path: Path) -> None:
    keys = {"inbox": ("ed25519:" + "0" * 64,)}
    frozen = ("frozen", {"patterns": ("w.*",)}, Action.OBSERVE)
    made = bench(tmp_path, ("signature", {"keys": keys}, Action.REJECT), frozen)
    verdicts = made.judge(checkpoint(tmp_path, 0.25))
    assert [(verdict.gate, verdict.reason) for verdict in verdicts] == [
        ("signature", "signature_missing"), ("frozen", "frozen_changed"),
    ]  # fmt: skip


def test_trials_that_a_kill_left_are_swept_away(tmp_path: Path) -> None:
    made = bench(tmp_path, EVALUATION)
    left = tmp_path / "state" / "trial" / "would-be"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    (left.parent / ".remembered.json.new").write_bytes(b"half")
    made.judge(checkpoint(tmp_path, 0.25))
    assert made.trial == ["remembered.json"]
