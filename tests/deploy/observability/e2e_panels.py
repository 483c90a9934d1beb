"""Every panel of every dashboard has data from real nodes, and what nodes export is well formed.

``make observability-e2e`` runs it, and no other target.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.deploy.observability.peers_stage import Peers
from tests.deploy.observability.stage import Stage
from tests.deploy.observability.watcher import PROGRAMS, Watcher, until
from tests.support.observability import queries

pytestmark = pytest.mark.skipif(
    any(shutil.which(each) is None for each in PROGRAMS),
    reason="prometheus is not installed (Debian: packages prometheus, prometheus-alertmanager)",
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A node of its own and three of a union, after some contributions."""
    with ExitStack() as stack:
        root = tmp_path_factory.mktemp("panels")
        stage = Stage(root / "stage", Watcher(root / "watch", stack), stack)
        stage.node("alone", method={"name": "opcm"})
        peers = Peers(stage, "abc")
        for name in "abc":
            peers.node(name, method={"name": "iso"})
        peers.start()
        for seed in range(1, 5):
            stage.nodes[0].fold(f"honest-{seed}", stage.nodes[0].tuned(seed))
        for seed, name in enumerate("ab", 10):
            peers.nodes[name].put(f"from-{name}", peers.nodes[name].tuned(seed))
        for node in peers.nodes.values():
            node.sees(f'mergenode_version{{instance="{node.instance}"}} > 0')
        yield stage


def test_scrapes_are_well_formed(stage: Stage) -> None:
    for node in stage.nodes:
        text = httpx.get(f"http://{node.instance}/metrics", timeout=30).text
        text = "".join(line for line in text.splitlines(keepends=True) if "process_" not in line)
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_panel_has_data_or_says_why_not(stage: Stage) -> None:
    silent, asked = [], 0
    for name, panel, expr in queries():
        asked += 1
        filled = expr.replace("$__rate_interval", "30s").replace("$job", ".*").replace("$instance", ".*")
        if not stage.watcher.query(filled):
            silent.append((name, panel["title"], panel["fieldConfig"]["defaults"]["noValue"], expr))
    print(f"{asked} queries, {len(silent)} without data:", *silent, sep="\n  ")
    assert [each for each in silent if each[2] == "no data"] == []


def test_nothing_fired_meanwhile(stage: Stage) -> None:
    until(lambda: not stage.watcher.firing(*stage.instances), "all is well")
    assert set(stage.watcher.fired(stage.seconds(), *stage.instances)) <= {"MergenodeAbsent"}
