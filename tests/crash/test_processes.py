"""The daemon as a real process: two of them on one directory, SIGTERM, SIGKILL, SIGHUP, life as process 1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.crash_checks import files_of, latest_of, outcomes_of
from tests.support.crash_process import Node, write_settings, write_wide
from tests.support.crash_world import Site

pytestmark = pytest.mark.slow


class Wide:
    """A base and two fine-tunes that take a while to fold; ``published`` by a node that nobody disturbed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = write_wide(root / "base", 0)
        self.registry = root / "registry"
        for seed, name in enumerate(("a", "b"), 1):
            write_wide(self.registry / name, seed)
        site = self.site("undisturbed")
        with Node(site, "--once") as node:
            assert node.end() == 0, node.lines
        self.published, self.outcomes = files_of(site.published), outcomes_of(site)
        assert len(self.outcomes.folded) == 2

    def site(self, name: str, **settings: float) -> Site:
        site = Site(self.root / name)
        write_settings(site, self.base, self.registry, **settings)
        return site


@pytest.fixture(scope="module")
def wide(scratch: Path) -> Wide:
    return Wide(scratch / "wide")


def second_fold_begun(site: Site) -> bool:
    return (site.state / "statistics" / "g00000001").is_dir() and (site.state / "folding" / "plan.json").exists()


def completes(wide: Wide, site: Site) -> None:
    with Node(site, "--once") as node:
        assert node.end() == 0, node.lines
    assert outcomes_of(site) == wide.outcomes
    assert files_of(site.published) == wide.published
    assert not (site.state / "folding").exists()


def test_sigkill_in_the_middle_of_a_fold(wide: Wide) -> None:
    site = wide.site("killed")
    with Node(site) as node:
        node.until(lambda: second_fold_begun(site), "the second fold")
        node.signal(signal.SIGKILL)
        assert node.end() == -signal.SIGKILL
    assert len(outcomes_of(site).folded) == 1
    assert latest_of(site) == "v000001"
    completes(wide, site)


def test_sigterm_lets_the_fold_at_hand_finish(wide: Wide) -> None:
    site = wide.site("drained")
    with Node(site) as node:
        node.until(lambda: second_fold_begun(site), "the second fold")
        node.signal(signal.SIGTERM)
        assert node.end() == 0, node.lines
    assert outcomes_of(site) == wide.outcomes
    assert latest_of(site) == "v000001", "publishing is left to the next start"
    completes(wide, site)


@pytest.mark.parametrize("how", ["a second signal", "no time to drain"])
def test_the_fold_at_hand_is_put_down_between_two_steps(wide: Wide, how: str) -> None:
    site = wide.site(how.replace(" ", "-"), drain_seconds=0.0 if how == "no time to drain" else 60.0)
    with Node(site) as node:
        node.until(lambda: second_fold_begun(site), "the second fold")
        node.signal(signal.SIGTERM)
        if how == "a second signal":
            node.signal(signal.SIGINT)  # two signals of one number may arrive as one
        assert node.end() == 0, node.lines
    assert len(outcomes_of(site).folded) == 1
    assert (site.state / "folding" / "plan.json").exists(), "what was begun is kept"
    completes(wide, site)


def test_a_second_daemon_is_refused_and_sighup_looks_again(wide: Wide) -> None:
    site = wide.site("shared", poll_seconds=3600.0)
    with Node(site) as first:
        first.until(lambda: latest_of(site) == "v000002", "the second version")
        with Node(site) as second:
            assert second.end() == 1
            told = "\n".join(second.lines)
            assert f"process {first.process.pid} on " in told and "hint: " in told, told
        seen = len(first.events("listed"))
        first.signal(signal.SIGHUP)
        first.until(lambda: len(first.events("listed")) > seen, "another look")
        first.signal(signal.SIGTERM)
        assert first.end() == 0
    assert outcomes_of(site) == wide.outcomes


def may_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-pf", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.root
def test_as_process_1_it_folds_and_stops_when_asked(wide: Wide) -> None:
    """As in a container without an init: signals without a handler would be ignored."""
    if not may_unshare():
        pytest.skip("needs root and the right to make a process namespace")
    site = wide.site("container", poll_seconds=3600.0)
    with Node(site, inside=["unshare", "-pf", "--kill-child"]) as node:
        node.until(lambda: latest_of(site) == "v000002", "the second version")
        assert '"pid": 1,' in (site.state / "lock").read_text()
        children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert node.end() == 0, node.lines
    completes(wide, site)
