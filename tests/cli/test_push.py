"""``mergenode push`` against an intake on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.peers.intake.outcomes import Fate, Outcome
from mergenode.adapters.registries.marker import read_marker
from mergenode.adapters.registries.pushes import pushes_directory
from tests.support.checkpoints import base_tensors, finetuned, write_file, write_single
from tests.support.intake import FakeOutcomes, Intake, open_uploads


class Everything(FakeOutcomes):
    """Every push ends like this."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__()
        self.outcome = outcome

    def of_push(self, entry: str, after: int) -> Outcome | None:
        return self.outcome


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return write_single(tmp_path / "my-finetune", finetuned(base_tensors()))


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    base = write_single(tmp_path / "base", base_tensors())
    with Intake(open_uploads(tmp_path / "state", base, outcomes=Everything(None))) as running:
        yield running


def ends(intake: Intake, outcome: Outcome) -> None:
    found = intake.uploads.side.outcomes
    assert isinstance(found, Everything)
    found.outcome = outcome


def test_what_was_taken_waits(run, intake: Intake, tuned: Path) -> None:
    result = run("push", tuned, "--to", intake.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("my-finetune: accepted, it waits to be folded (")
    assert " sent of " in result.stdout


def test_waiting_tells_the_share_kept(run, intake: Intake, tuned: Path) -> None:
    ends(intake, Outcome(Fate.FOLDED, share_kept=0.6291))
    result = run("push", tuned, "--to", f"grpc://{intake.address}", "--wait", "--name", "mine")
    assert result.exit_code == 0
    assert result.stdout.startswith("mine: folded; 62.9% of it survived the merge (")


def test_a_rejection_is_an_error_with_its_hint(run, intake: Intake, tuned: Path) -> None:
    ends(intake, Outcome(Fate.REJECTED, "other_base", "its matrices differ", "Check the base."))
    result = run("push", tuned, "--to", intake.address, "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: my-finetune was rejected: other_base: its matrices differ\nhint: Check the base.\n"


def test_left_out_by_a_selection_is_an_error_with_its_score(run, intake: Intake, tuned: Path) -> None:
    found = intake.uploads.side.outcomes
    assert isinstance(found, Everything)
    found.pool[content_digest(tuned)] = Outcome(
        Fate.NOT_SELECTED, "outdone", "it was in the pool of 3", "Look at it.", score=-0.25
    )
    result = run("push", tuned, "--to", intake.address, "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: my-finetune was not selected: outdone: it was in the pool of 3\nhint: Look at it.\n"
    )
    document = json.loads(run("push", tuned, "--to", intake.address, "--json").stdout)
    assert (document["outcome"], document["folded"], document["score"]) == ("not_selected", False, -0.25)


def test_a_duplicate(run, intake: Intake, tuned: Path) -> None:
    ends(intake, Outcome(Fate.DUPLICATE, message="in the merge as other"))
    result = run("push", tuned, "--to", intake.address)
    assert result.exit_code == 0 and result.stdout.startswith("my-finetune: duplicate, the same content was pushed")


def test_json(run, intake: Intake, tuned: Path, tmp_path: Path) -> None:
    write_file(tuned / "model.gram.safetensors", finetuned(base_tensors()))
    ends(intake, Outcome(Fate.FOLDED, share_kept=0.5))
    base = tmp_path / "base"
    result = run(
        "push", tuned, "--to", intake.address, "--json", "--weight", "0.5", "--profile", "*.mlp.*=0", "--base", base
    )
    document = json.loads(result.stdout)
    assert list(document) == [
        "schema", "name", "outcome", "folded", "share_kept", "score", "reason", "message", "hint",
        "trace_id", "upload", "root", "bytes_total", "bytes_sent", "blocks", "blocks_sent", "notes",
    ]  # fmt: skip
    assert (document["schema"], document["outcome"], document["share_kept"]) == ("mergenode.push/1", "accepted", 0.5)
    assert document["notes"] == ["model.gram.safetensors is a side-car and is not pushed"]
    assert "warning: model.gram.safetensors is a side-car" in result.stderr
    (place,) = pushes_directory(tmp_path / "state").iterdir()
    marker = read_marker(place)
    assert marker is not None and (marker.weight, marker.profile) == (0.5, (("*.mlp.*", 0.0),))
    assert marker.base is not None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--to", "nowhere"], "is not host:port"),
        (["--to", "127.0.0.1:1", "--weight", "0"], "--weight is 0.0"),
        (["--to", "127.0.0.1:1", "--profile", "x"], "is not PATTERN=FACTOR"),
        (["--to", "127.0.0.1:1", "--base", "absent"], "absent: no such checkpoint"),
        (["--to", "127.0.0.1:1", "--tls-cert", "x"], "belong together"),
        (["--to", "merge.example.org:1"], "not on this machine"),
        ([], "missing option '--to'"),
    ],
)
def test_wrong_usage(run, tuned: Path, args: list[str], said: str) -> None:
    result = run("push", tuned, *args)
    assert result.exit_code == 2 and said in result.stderr


def test_a_model_that_is_not_there(run, tmp_path: Path) -> None:
    assert run("push", tmp_path / "absent", "--to", "127.0.0.1:1").exit_code == 2
    (tmp_path / "empty").mkdir()
    result = run("push", tmp_path / "empty", "--to", "127.0.0.1:1")
    assert result.exit_code == 1 and "no .safetensors file" in result.stderr
