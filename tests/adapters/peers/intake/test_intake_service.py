"""Pushing into an intake over real sockets: what arrives, what is said, what is refused before it travels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.peers.intake import intake_service
from mergenode.adapters.peers.intake.outcomes import Fate, Outcome
from mergenode.adapters.peers.intake.upload_admission import UploadLimits
from mergenode.adapters.peers.pushing.local_model import describe_model
from mergenode.adapters.registries.marker import read_marker
from mergenode.adapters.registries.pushes import PushesRegistry, pushes_directory
from mergenode.errors import FatalError
from tests.support.checkpoints import base_tensors, finetuned, write_file, write_sharded, write_single
from tests.support.intake import FakeCaller, FakeOutcomes, Intake, open_uploads
from tests.support.local_node import load_model, same_bits


def pushed(state: Path) -> list[Path]:
    return sorted(pushes_directory(state).iterdir())


def test_a_full_checkpoint_arrives_as_it_is(intake: Intake, state: Path, tuned: Path) -> None:
    report = intake.push(tuned)
    assert (report.outcome, report.folded) == ("accepted", False)
    (place,) = pushed(state)
    assert place.name == f"tuned@{report.root[:12]}"
    assert {path.name for path in place.iterdir()} == {
        "model.safetensors", "config.json", "mergenode.commit.json", "mergenode.push.json",
    }  # fmt: skip
    assert content_digest(place) == content_digest(tuned)
    there, here = load_model(place), load_model(tuned)
    assert there.keys() == here.keys()
    assert all(same_bits(there[name], here[name]) for name in here)
    assert (place / "config.json").read_bytes() == (tuned / "config.json").read_bytes()
    (candidate,) = PushesRegistry(state, clock=SystemClock()).list().candidates
    assert candidate.attested and candidate.content == content_digest(tuned)


def test_sharded_and_bare_checkpoints_are_the_same_content(
    intake: Intake, state: Path, tuned: Path, tmp_path: Path
) -> None:
    tensors = load_model(tuned)
    assert intake.push(write_sharded(tmp_path / "sharded", tensors)).outcome == "accepted"
    assert intake.push(write_file(tmp_path / "bare.safetensors", tensors), name="other").outcome == "accepted"
    assert len(pushed(state)) == 1, "one root of one pusher is one upload"


def test_an_adapter_keeps_its_settings(intake: Intake, state: Path, adapter: Path) -> None:
    assert intake.push(adapter).outcome == "accepted"
    (place,) = pushed(state)
    assert (place / "adapter_model.safetensors").exists()
    assert content_digest(place) == content_digest(adapter)


def test_weight_base_and_profile_are_in_the_marker(intake: Intake, state: Path, tuned: Path, base: Path) -> None:
    from mergenode.adapters.peers.pushing.pushing import PushOrder

    order = PushOrder(
        name="tuned", lineage="mergenode", weight=0.5, profile={"*.mlp.*": 0.0}, base=content_digest(base)
    )
    intake.push(tuned, order=order)
    marker = read_marker(pushed(state)[0])
    assert marker is not None
    assert (marker.weight, marker.base, marker.profile) == (0.5, content_digest(base), (("*.mlp.*", 0.0),))


def test_blocks_of_the_base_do_not_travel(intake: Intake, base: Path, tmp_path: Path) -> None:
    tensors = base_tensors()
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + 1
    report = intake.push(write_single(tmp_path / "nearly", tensors))
    assert (report.outcome, report.blocks_sent) == ("accepted", 1)


def test_equal_blocks_of_one_model_travel_once(intake: Intake, state: Path, tuned: Path) -> None:
    report = intake.push(tuned)  # the tied pair is stored twice
    assert report.blocks_sent < report.blocks
    assert load_model(pushed(state)[0])["lm_head.weight"].equal(load_model(tuned)["model.embed_tokens.weight"])


def test_the_second_push_answers_at_once(intake: Intake, tuned: Path) -> None:
    first = intake.push(tuned)
    puts = intake.calls["Put"]
    again = intake.push(tuned)
    assert (again.outcome, again.blocks_sent, again.upload) == ("accepted", 0, first.upload)
    assert intake.calls["Put"] == puts


def test_it_is_said_what_became_of_it(intake: Intake, state: Path, tuned: Path, outcomes: FakeOutcomes) -> None:
    intake.push(tuned)
    outcomes.pushes[pushed(state)[0].name] = Outcome(Fate.FOLDED, share_kept=0.629)
    report = intake.push(tuned)
    assert (report.outcome, report.folded, report.share_kept) == ("accepted", True, 0.629)


def test_waiting_ends_with_the_outcome(intake: Intake, state: Path, tuned: Path, outcomes: FakeOutcomes) -> None:
    from mergenode.adapters.peers.pushing.local_model import describe_model

    with describe_model(tuned) as model:
        pushing = intake.pushing(model)
        report = pushing.push()
        outcomes.pushes[pushed(state)[0].name] = Outcome(Fate.REJECTED, "not_finite", "NaN in w", "train again")
        report = pushing.wait(report)
    assert (report.outcome, report.reason, report.message, report.hint) == (
        "rejected", "not_finite", "NaN in w", "train again",
    )  # fmt: skip


def test_waiting_ends_when_a_selection_left_it_out_and_for_who_pushed_it_too(
    intake: Intake, tuned: Path, outcomes: FakeOutcomes
) -> None:
    with describe_model(tuned) as model:
        pushing = intake.pushing(model)
        report = pushing.push()
        assert report.outcome == "accepted"
        outcomes.pool[content_digest(tuned)] = Outcome(Fate.NOT_SELECTED, "useless", "no", "look", score=0.5)
        report = pushing.wait(report)
    assert (report.outcome, report.folded, report.reason, report.score) == ("not_selected", False, "useless", 0.5)
    other = intake.push(tuned, "mine", "team-b")
    assert (other.outcome, other.reason, other.score) == ("not_selected", "useless", 0.5)


def test_what_is_in_the_merge_for_another_content_of_the_pool_is_a_duplicate(
    intake: Intake, tuned: Path, outcomes: FakeOutcomes
) -> None:
    outcomes.pool[content_digest(tuned)] = Outcome(Fate.FOLDED, message="in the merge as other", share_kept=0.5)
    report = intake.push(tuned)
    assert (report.outcome, report.folded, report.share_kept) == ("duplicate", True, 0.5)


def test_an_outcome_that_only_newer_nodes_know_is_waited_for(
    intake: Intake, tuned: Path, outcomes: FakeOutcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes.pool[content_digest(tuned)] = Outcome(Fate.NOT_SELECTED, "useless", "no", "look")
    monkeypatch.setitem(intake_service._OUTCOMES, Fate.NOT_SELECTED, 42)
    report = intake.push(tuned)
    assert (report.outcome, report.folded) == ("accepted", False)


def test_the_same_content_of_another_pusher_is_a_duplicate(intake: Intake, state: Path, tuned: Path) -> None:
    intake.push(tuned, name="mine")
    report = intake.push(tuned, name="yours", pusher="team-b")
    assert (report.outcome, report.folded) == ("duplicate", False)
    assert len(pushed(state)) == 1
    assert intake.push(tuned, name="yours", pusher="team-b").outcome == "duplicate"


def test_what_is_in_the_merge_already_is_a_duplicate(
    intake: Intake, state: Path, tuned: Path, outcomes: FakeOutcomes
) -> None:
    outcomes.contents[content_digest(tuned)] = Outcome(Fate.FOLDED, message="in the merge as other", share_kept=0.5)
    report = intake.push(tuned)
    assert (report.outcome, report.folded, report.share_kept) == ("duplicate", True, 0.5)
    assert pushed(state) == [] and not any((state / "intake").glob("????*????/model.safetensors"))


def test_what_was_taken_out_is_rejected(intake: Intake, tuned: Path, outcomes: FakeOutcomes) -> None:
    outcomes.contents[content_digest(tuned)] = Outcome(Fate.RETRACTED, "retracted", "it was taken out")
    assert (intake.push(tuned).outcome, intake.push(tuned).reason) == ("rejected", "retracted")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda tensors: tensors.update(extra=torch.ones(3)), "tensor_unexpected"),
        (lambda tensors: tensors.pop("model.norm.weight"), "tensor_missing"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.ones(33)}), "shape_mismatch"),
    ],
)
def test_what_cannot_match_the_base_is_refused_before_weights_travel(intake, state, tmp_path, edit, said: str) -> None:
    tensors = finetuned(base_tensors())
    edit(tensors)
    with pytest.raises(FatalError, match=said):
        intake.push(write_single(tmp_path / "odd", tensors))
    assert intake.calls["Put"] == 0
    assert intake.uploads._uploads == {}


def test_another_base_is_refused_at_once(intake: Intake, tuned: Path) -> None:
    from mergenode.adapters.peers.pushing.pushing import PushOrder

    order = PushOrder(name="tuned", lineage="mergenode", base=content_digest(tuned))
    with pytest.raises(FatalError, match="tuned from the base"):
        intake.push(tuned, order=order)
    assert intake.calls["Missing"] == intake.calls["Put"] == 0


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (UploadLimits(min_free=0, max_upload=1000), "one upload may have 1000"),
        (UploadLimits(min_free=1 << 60), "the disk of the node"),
        (UploadLimits(min_free=0, daily_quota=1 << 20), "above its quota"),
    ],
)
def test_refused_before_the_first_byte(state: Path, base: Path, tuned: Path, limits: UploadLimits, said: str) -> None:
    with Intake(open_uploads(state, base, limits=limits)) as intake:
        with pytest.raises(FatalError, match=said):
            intake.push(tuned)
        assert intake.calls["Put"] == intake.calls["Missing"] == 0


def test_a_caller_without_the_scope_may_not_push(intake: Intake, tuned: Path) -> None:
    intake.callers["team-c"] = FakeCaller("team-c", lineages=("another",))
    with pytest.raises(FatalError, match="may not push to the lineage"):
        intake.push(tuned, pusher="team-c")


def test_a_quota_of_its_own_counts(intake: Intake, tuned: Path) -> None:
    intake.callers["team-c"] = FakeCaller("team-c", quota=1000)
    with pytest.raises(FatalError, match="above its quota of 1000"):
        intake.push(tuned, pusher="team-c")


def test_a_draining_node_says_so(intake: Intake, tuned: Path) -> None:
    intake.service.drain()
    told: list[str] = []

    def give_up(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        intake.push(tuned, pause=give_up, tell=told.append)
    assert "about to stop" in told[0]
