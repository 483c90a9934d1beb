"""One real node as its users see it: files arrive in every way there is, HTTP answers, signals end it."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.support.checkpoints import Tensors, base_tensors, write_file, write_single
from tests.support.real_node import Process, RealNode, mergenode

PATIENT = {"url": "./inbox", "settle_seconds": 3600, "settle_polls": 1000, "poll_seconds": 0.2}
QUICK = {"url": "./quick", "settle_seconds": 0.5, "settle_polls": 2, "poll_seconds": 0.2}
PORT = {"listen": "127.0.0.1:0"}


class Running:
    """A node process, its address, and a way to wait for what it says."""

    def __init__(self, node: RealNode, process: Process) -> None:
        self.node = node
        self.process = process
        self.client = httpx.Client(base_url=process.until("http://").split("status on ")[1].strip(), timeout=30)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def until(self, condition: Callable[[], bool]) -> None:
        """Ask again and again; the process has a minute."""
        for _ in range(600):
            if condition():
                return
            threading.Event().wait(0.1)
        raise AssertionError("".join(self.process.lines))

    def metrics(self) -> dict[str, float]:
        text = self.client.get("/metrics").text
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line and not line.startswith("#")
        }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("node")
    (root / "quick").mkdir()
    node = RealNode(root, registries=[PATIENT, QUICK], http=PORT, publish={"keep": 2})
    with Process("run", "-c", node.config) as process, Running(node, process) as running:
        yield running


def test_it_starts_and_says_so(running: Running) -> None:
    running.until(lambda: running.client.get("/readyz").status_code == 200)
    for path in ("/livez", "/startupz", "/healthz"):
        assert running.get(path)
    assert running.get("/api/v1/status")["head"]["generation"] == 0


def test_renamed_in_is_taken_at_once(running: Running) -> None:
    """An hour of settling would be due; a name in progress that the node saw, and a rename, prove it complete."""
    staged = write_single(running.node.inbox / "renamed.tmp", running.node.tuned(1))
    for _ in range(3):
        running.process.process.send_signal(signal.SIGHUP)
        running.get("/api/v1/status")
        threading.Event().wait(0.3)
    staged.rename(running.node.inbox / "renamed")
    running.process.until("folded 'renamed'")
    running.process.until("version 1 is visible")


def test_a_commit_marker_ends_the_wait(running: Running) -> None:
    place = write_single(running.node.inbox / "marked", running.node.tuned(2))
    done = mergenode("commit", place)
    assert done.returncode == 0, done.stderr
    running.process.until("folded 'marked'")


def test_a_slow_copy_is_left_alone_until_it_lies_still(running: Running) -> None:
    quick = running.node.root / "quick"
    source = write_single(running.node.root / "source", running.node.tuned(3))
    data = (source / "model.safetensors").read_bytes()
    target = quick / "slow"
    target.mkdir()
    shutil.copy(source / "config.json", target / "config.json")
    (target / "model.safetensors").write_bytes(data[: len(data) // 2])

    def waits() -> bool:
        registries = running.get("/api/v1/status")["registries"]
        return any(entry["name"] == "slow" for registry in registries for entry in registry["unsettled"])

    running.until(waits)
    assert "slow" not in running.node.outcomes()
    with (target / "model.safetensors").open("ab") as file:
        file.write(data[len(data) // 2 :])
    running.process.until("folded 'slow'")
    assert running.node.outcomes()["slow"] == ["folded"]


def test_ingest_takes_what_lies_anywhere_and_waits_for_the_outcome(running: Running) -> None:
    place = write_single(running.node.root / "elsewhere/asked", running.node.tuned(4))
    done = mergenode("ingest", place, "-c", running.node.config, "--wait")
    assert done.returncode == 0 and "folded" in done.stdout, done.stderr
    again = mergenode("ingest", place, "-c", running.node.config, "--wait", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["outcome"]["kind"] == "folded"


def test_ingest_of_another_model_is_rejected_with_its_reason(running: Running) -> None:
    place = write_single(running.node.root / "elsewhere/stranger", base_tensors(seed=70))
    done = mergenode("ingest", place, "-c", running.node.config, "--wait")
    assert done.returncode == 1 and "stranger was rejected" in done.stderr and "hint: " in done.stderr


def test_a_bad_file_is_rejected_and_the_node_goes_on(running: Running) -> None:
    quick = running.node.root / "quick"
    write_file(quick / "bad.safetensors", {"w": torch.ones(3)})
    running.process.until("rejected 'bad.safetensors'")
    write_single(quick / "after", running.node.tuned(5))
    running.process.until("folded 'after'")


def test_replaced_under_the_same_name_is_another_contribution(running: Running) -> None:
    place = running.node.root / "quick/after"
    staged = write_single(running.node.root / "staged", running.node.tuned(6))
    place.rename(running.node.root / "old")
    staged.rename(place)
    running.process.until("folded 'after'")
    assert running.node.outcomes()["after"] == ["folded", "folded"]


def test_the_same_weights_again_are_a_duplicate(running: Running) -> None:
    write_single(running.node.root / "quick/copy", running.node.tuned(6))
    running.process.until("'copy' is already in the merge as 'after'")


def test_metrics_say_what_happened(running: Running) -> None:
    running.until(lambda: running.metrics()['mergenode_contributions_total{outcome="duplicate",registry="quick"}'] == 1)
    running.until(lambda: running.metrics()["mergenode_published_bytes"] > 0)
    metrics = running.metrics()
    counted = {
        name.removeprefix("mergenode_contributions_total"): value
        for name, value in metrics.items()
        if name.startswith("mergenode_contributions_total") and value
    }
    assert counted == {
        '{outcome="folded",registry="inbox"}': 2,
        '{outcome="folded",registry="quick"}': 3,
        '{outcome="folded",registry="ingest"}': 1,
        '{outcome="rejected",registry="quick"}': 1,
        '{outcome="rejected",registry="ingest"}': 1,
        '{outcome="duplicate",registry="quick"}': 1,
    }
    assert metrics["mergenode_version"] == metrics["mergenode_contributions_in_merge"] == 6
    assert metrics["mergenode_statistics_bytes"] > 0 and metrics["mergenode_disk_free_bytes"] > 0
    assert metrics['mergenode_rejected_total{reason="other_base",registry="ingest"}'] == 1


def test_the_page_and_the_table_of_tensors_tell_of_this_node(running: Running) -> None:
    page = running.client.get("/").text
    for said in ("Working; 1 thing to look at", "2 contributions were rejected within a day", "v6", ">marked</th>"):
        assert said in page, said
    assert page.count("<svg") >= 5 and 'class="heat"' in page
    table = running.get("/api/v1/tensors")
    assert (table["contribution"]["name"], table["contribution"]["count"]) == ("after", 6)
    whole = running.get("/api/v1/history?limit=50")["facts"]
    (report,) = [group for group in _newest(whole, "folded")["groups"] if group["group"] == "*"]
    for norm in ("delta_norm", "kept_norm", "merge_norm", "base_norm"):
        squares = [row[norm] ** 2 for row in table["tensors"]]
        assert sum(squares) == pytest.approx(report[norm] ** 2), norm
    assert len(table["tensors"]) == table["total"] > 0


def _newest(facts: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(fact for fact in reversed(facts) if fact["kind"] == kind)


def test_readers_work_beside_it(running: Running) -> None:
    status = mergenode("status", "-c", running.node.config, "--json")
    assert json.loads(status.stdout)["running"] is True
    assert mergenode("verify", "-c", running.node.config).returncode == 0
    second = mergenode("run", "-c", running.node.config)
    assert second.returncode == 1 and str(running.process.process.pid) in second.stderr


def test_published_is_what_any_reader_expects(running: Running) -> None:
    names = sorted(path.name for path in running.node.published.iterdir())
    assert names == ["latest", "v000005", "v000006"]
    assert (running.node.published / "latest").resolve().name == "v000006"
    assert running.node.manifest()["count"] == 6


def test_sigterm_ends_it_cleanly(running: Running) -> None:
    assert running.process.end(signal.SIGTERM) == 0
    log = "".join(running.process.lines)
    assert "stopped: asked to stop" in log and "Traceback" not in log
    assert running.node.problems() == []


def test_started_again_it_goes_on(running: Running) -> None:
    running.node.configure(registries=[PATIENT, QUICK])
    place = write_single(running.node.inbox / "later", running.node.tuned(9))
    assert mergenode("commit", place).returncode == 0
    with Process("run", "-c", running.node.config) as process:
        process.until("version 7 is visible")
        process.process.send_signal(signal.SIGKILL)
        process.join()
    running.node.configure()
    assert mergenode("run", "-c", running.node.config, "--once").returncode == 0
    assert running.node.versions() == list(range(1, 8)) and running.node.problems() == []
    assert mergenode("verify", "-c", running.node.config).returncode == 0


def large() -> Tensors:
    """Matrices whose projection takes a while."""
    draw = torch.Generator().manual_seed(0)
    return {f"model.layers.{n}.up.weight": torch.randn(640, 640, generator=draw) * 0.05 for n in range(10)}


@pytest.mark.slow
def test_http_answers_during_a_fold_and_two_signals_put_it_down(tmp_path: Path) -> None:
    node = RealNode(tmp_path, tensors=large(), http=PORT)
    node.put("a", 1)
    node.put("b", 2)
    with Process("run", "-c", node.config) as process, Running(node, process) as running:
        process.until("version 1 is visible")

        def folding() -> bool:
            work = running.get("/api/v1/status")["running"]
            return bool(work) and work["activity"] == "fold" and work["subject"] == "b" and work["tensors_done"] > 0

        running.until(folding)
        assert running.get("/livez") and "mergenode_fold_progress_ratio" in running.metrics()
        process.process.send_signal(signal.SIGTERM)
        running.until(lambda: running.client.get("/readyz").status_code == 503)
        assert process.end(signal.SIGTERM) == 0
    log = "".join(process.lines)
    assert "fold of b put down at tensor" in log and "stopped: asked to stop" in log
    assert node.outcomes() == {"a": ["folded"]}
    assert mergenode("run", "-c", node.config, "--once").returncode == 0
    assert node.outcomes() == {"a": ["folded"], "b": ["folded"]} and node.versions() == [1, 2]


def test_an_unknown_setting_names_its_line_and_exits_2(tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    node.config.write_text("base: ./base\nregistries: [./inbox]\npublsh:\n  keep: 3\n")
    done = mergenode("run", "-c", node.config)
    assert done.returncode == 2 and done.stdout == ""
    assert f"{node.config}:3:" in done.stderr and "did you mean 'publish'" in done.stderr
    assert "Traceback" not in done.stderr
