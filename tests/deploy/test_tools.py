"""The checks of ``make deploy-lint``: they end, count, and say what failed and what is lacking."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.tools import binaries, check, environments
from deploy.tools.check import Check, Checks
from tests.deploy.image import build
from tests.deploy.image.index import Indexes

PYTHON = (sys.executable, "-S", "-c")


def test_every_check_runs_and_those_that_fail_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "PATIENCE_SECONDS", 20.0)
    checks = Checks()
    checks.run(
        [
            Check("bad", [*PYTHON, "print('why'); raise SystemExit(3)"]),
            Check("good", [*PYTHON, "print('text')"], tmp_path / "out"),
        ]
    )
    assert (checks.done, checks.failed) == (2, ["bad"])
    assert (tmp_path / "out").read_text() == "text\n"
    told = capsys.readouterr().out
    assert "--- bad: exit code 3\nwhy" in told and "ok  good" in told


def test_a_check_that_does_not_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "PATIENCE_SECONDS", 0.0)
    checks = Checks()
    checks.run([Check("endless", [*PYTHON, "import signal; signal.pause()"])])
    assert checks.failed == ["endless"] and "not done after 0 s" in capsys.readouterr().out


def test_manifests_that_both_helms_make_alike_are_judged_once(tmp_path: Path) -> None:
    texts = {"three": "a: 1\n---\nb: 2\n", "four": "---\nb: 2\n---\na: 1\n", "other": "a: 1\n"}
    paths = [tmp_path / name for name in texts]
    for path in paths:
        path.write_text(texts[path.name])
    assert [path.name for path in check._distinct(paths)] == ["three", "other"]


@pytest.mark.parametrize(("patience", "reason"), [(300.0, "pip ended with code 1"), (0.0, "not done after 0 s")])
def test_an_index_that_refuses_is_named_and_never_waited_for(
    patience: float, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(environments, "WHEELS", ())
    monkeypatch.setattr(environments, "ENVIRONMENTS", {"tools": "deploy.txt"})
    for module in (binaries, environments):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", patience)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with Indexes({}) as nothing:
        monkeypatch.setenv("PIP_INDEX_URL", nothing.url)
        assert environments.failures() == [f"requirements/deploy.txt: {reason}"]
    assert not (tmp_path / "tools/.installed").exists(), "tried again the next time"


def test_the_check_of_the_image_names_the_packages_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name in ("buildah", "mmdebstrap") else name)
    reason = build.reason_against()
    assert reason == "not installed: buildah, mmdebstrap (Debian: apt-get install buildah mmdebstrap)"
    monkeypatch.setattr(build.shutil, "which", str)
    monkeypatch.setattr(build.os, "geteuid", lambda: 1000)
    assert "root" in (build.reason_against() or "")
