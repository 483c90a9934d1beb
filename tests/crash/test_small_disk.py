"""A real disk that is too small: a tmpfs in a mount namespace of its own, with a few pages left."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crash_checks import faults_at_end, faults_visible
from tests.support.crash_runners import Runner
from tests.support.crash_story import Story
from tests.support.crash_world import Site

PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = 1 << 20
FREE_PAGES = range(0, 72, 3)

pytestmark = [pytest.mark.slow, pytest.mark.root]


def may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    attempt = ["unshare", "-m", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(attempt, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def mounted(scratch: Path) -> Iterator[tuple[Runner, Path, Path]]:
    """A runner that sees a small tmpfs, its directory as the runner names it, and as this process reaches it."""
    if not may_mount():
        pytest.skip("needs root and the right to mount a tmpfs in a mount namespace")
    inside = scratch / "small"
    inside.mkdir()
    mount = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'
    runner = Runner(["unshare", "-m", "--propagation", "private", "sh", "-c", mount, str(SIZE), str(inside)])
    runner.do({"site": str(scratch), "actions": []})  # answers once the disk is mounted
    yield runner, inside, Path(f"/proc/{runner.pid}/root{inside}")
    runner.close()


def leave_free(disk: Path, pages: int) -> None:
    """Fill the disk up to this many pages."""
    status = os.statvfs(disk)
    with (disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, (status.f_bavail - pages) * status.f_frsize)


def test_a_node_on_a_full_disk_says_so_and_goes_on_when_there_is_space(
    story: Story, scratch: Path, mounted: tuple[Runner, Path, Path]
) -> None:
    runner, inside, disk = mounted
    truth, ended, log = story.truths["dense"], [], scratch / "small.log"
    for pages in FREE_PAGES:
        outside, site = story.site("dense"), Site(disk / "site")
        text = outside.config.read_text().replace(str(outside.root), str(inside / "site"))
        shutil.copytree(outside.root, site.root, symlinks=True)
        site.config.write_text(text)
        shutil.rmtree(outside.root)
        leave_free(disk, pages)
        job = {"site": str(inside / "site"), "actions": ["run"], "log": str(log), "roots": story.roots}
        log.write_text("")

        answer = runner.do(job)

        ended.append(answer["status"])
        assert answer["status"] in (0, 1, 2), answer
        if answer["status"] == 2:
            assert "full" in answer["message"] or "No space left" in answer["message"], answer
            assert answer["hint"], answer
        if answer["status"] == 1:
            assert answer["why"].startswith("gave up: "), answer
            assert '"disk_full"' in log.read_text()
        assert not faults_visible(site, truth, "v000001"), f"{pages} pages free"

        (disk / "filler").unlink()
        answer = runner.do({**job, "actions": ["run", "verify"]})
        assert answer["status"] == 0 and answer["problems"] == [], f"{pages} pages free: {answer}"
        # SQLite follows the link into the namespace by its text, which leads elsewhere: a copy is looked at.
        copy = Site(Path(shutil.copytree(site.root, outside.root, symlinks=True)))
        assert not faults_at_end(copy, truth), f"{pages} pages free"
        shutil.rmtree(copy.root)
        shutil.rmtree(site.root)
    assert ended.count(1) > 5, f"the disk was hardly ever full: {ended}"
    assert 0 in ended, f"{FREE_PAGES[-1]} pages were not enough: {ended}"
