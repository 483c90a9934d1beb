"""The whole corpus of bad checkpoints against the real node: every one in its documented outcome, good ones folded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mergenode.adapters.registries.requests import submit_request
from mergenode.errors import UsageError
from mergenode.ledger.actions import Stop
from tests.support.corpus import CORPUS, BadCheckpoint
from tests.support.real_node import RealNode, forget_peak, resident_bytes

GOOD = ("00-good", "mm-good", "zz-good")
NOT_EVEN_LISTED = {"link_to_nothing", "link_to_itself"}
"""Links that lead nowhere are no checkpoints: nothing is there that could be told about."""
NEVER_FINISHED = {
    "empty_file",
    "seven_bytes",
    "offsets_beyond_64_bits",
    "index_names_a_tensor_twice",
    "index_names_a_pickle",
    "stale_index_beside_a_whole_model",
    "configuration_only",
    "adapter_configuration_only",
} | {case.name for case in CORPUS if case.settles}
"""What an upload in progress looks like, too: reported as unsettled, and judged when the operator asks for it."""


class Run:
    """One node over everything, run twice: as it lies there, then with everything left asked for."""

    def __init__(self, root: Path, method: str) -> None:
        self.node = RealNode(root, method={"name": method})
        self.entries: dict[str, BadCheckpoint] = {}
        for case in CORPUS:
            self.entries[case.build(self.node.inbox, self.node.base).name] = case
        for seed, name in enumerate(GOOD, start=1):
            self.node.put(name, 1000 + seed)
        before = resident_bytes()
        forget_peak()
        self.stop = self.node.run_once()
        self.grown = resident_bytes("VmHWM") - before
        self.log = self.node.log
        self.first = self.node.outcomes()
        self.unasked: list[str] = []
        for entry in self.entries:
            if entry not in self.first:
                self.ask(entry)
        self.second_stop = self.node.run_once()
        self.second = self.node.outcomes()

    def ask(self, entry: str) -> None:
        try:
            submit_request(self.node.state, self.node.inbox / entry)
        except UsageError:
            self.unasked.append(entry)


@pytest.fixture(scope="module", params=["opcm", "aswudi"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """By one weight after the other, and by several statistics per weight and a decomposition per version."""
    yield Run(tmp_path_factory.mktemp("corpus"), request.param)


def test_every_bad_checkpoint_has_its_documented_outcome(run: Run) -> None:
    wrong = []
    for entry, case in run.entries.items():
        expected = None if case.name in NEVER_FINISHED | NOT_EVEN_LISTED else [case.reason.value]
        if run.first.get(entry) != expected:
            wrong.append((case.name, expected, run.first.get(entry)))
    assert wrong == []
    assert len(run.entries) == len(CORPUS) >= 60


def test_good_ones_before_and_after_are_folded_and_nothing_else(run: Run) -> None:
    folded = sorted(name for name, outcomes in run.first.items() if "folded" in outcomes)
    assert folded == sorted(GOOD)
    assert run.node.versions() == [1, 2, 3]
    assert [entry["name"] for entry in run.node.manifest()["contributions"]] == list(GOOD)


def test_what_is_left_over_is_told(run: Run) -> None:
    assert isinstance(run.stop, Stop) and not run.stop.complete
    assert run.stop.why == f"done, except for {len(NEVER_FINISHED - NOT_EVEN_LISTED)} that are not complete yet"


def test_asked_for_every_unfinished_one_gets_its_reason(run: Run) -> None:
    wrong = []
    for entry, case in run.entries.items():
        asked = entry not in run.first and case.name not in NOT_EVEN_LISTED
        if asked and run.second.get(entry) != [case.reason.value]:
            wrong.append((case.name, case.reason.value, run.second.get(entry)))
    assert wrong == [] and set(run.unasked) <= NOT_EVEN_LISTED


def test_the_log_holds_no_traceback_and_no_defect(run: Run) -> None:
    assert len(run.log) > 1000
    for log in (run.log, run.node.log):
        assert "Traceback" not in log and '"unexpected"' not in log and '"level": "error"' not in log


def test_memory_stays_bounded(run: Run) -> None:
    """The tensors are a few kilobytes; headers that promise gigabytes must not be believed."""
    assert run.grown < 128 << 20


def test_the_ledger_and_the_disk_are_in_order(run: Run) -> None:
    assert run.node.problems() == []
    assert not (run.node.state / "folding").exists()
    assert sorted(path.name for path in run.node.published.iterdir()) == ["latest", "v000001", "v000002", "v000003"]
    assert len(list((run.node.state / "statistics").iterdir())) == 1


def test_another_run_has_nothing_new_to_say(run: Run) -> None:
    before = len(run.node.facts())
    run.node.run_once()
    assert len(run.node.facts()) == before
