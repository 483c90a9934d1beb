from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mergenode.adapters.registries import REGISTRIES, open_registry
from mergenode.adapters.registries.folder import FolderRegistry
from mergenode.errors import UsageError
from tests.support.clock import FakeClock
from tests.support.registry_files import write_single


def _opened(url: str, name: str = "") -> FolderRegistry:
    registry = open_registry(url, clock=FakeClock(), name=name)
    assert isinstance(registry, FolderRegistry)
    return registry


def test_paths_and_file_urls_open_folders(tmp_path: Path) -> None:
    write_single(tmp_path / "my inbox")
    for url in (
        str(tmp_path / "my inbox"),
        f"file://{tmp_path}/my%20inbox",
        f"FILE://localhost{tmp_path}/my inbox",
    ):
        registry = _opened(url)
        assert registry.root == tmp_path / "my inbox" and registry.name == "my inbox"


def test_a_given_name_wins(tmp_path: Path) -> None:
    assert _opened(str(tmp_path), "inbox").name == "inbox"


def test_relative_paths_do_not_move_with_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = _opened("./inbox:1")
    monkeypatch.chdir("/")
    assert registry.root == tmp_path / "inbox:1"


def test_the_root_of_the_file_system_has_a_name_too() -> None:
    assert _opened("/").name == "registry"


def test_settings_reach_the_registry(tmp_path: Path) -> None:
    write_single(tmp_path / "one")
    slow = open_registry(str(tmp_path), clock=FakeClock())
    quick = open_registry(str(tmp_path), clock=FakeClock(), settle_seconds=0, settle_polls=1)
    assert not slow.list().candidates and quick.list().candidates


@pytest.mark.parametrize("url", ["s3://bucket", "http://host/x", "fil:///x", "hf://a/b"])
def test_unknown_schemes_name_those_that_exist(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_registry(url, clock=FakeClock())
    assert url in caught.value.message and "a path, file://" in caught.value.hint
    assert ("Did you mean file://" in caught.value.hint) == url.startswith("fil:")


@pytest.mark.parametrize(
    "url", ["", "file://server/share", "file://relative", "file:///a?b", "file:///a#b", "file:///a%00"]
)
def test_urls_that_are_no_local_directory(url: str) -> None:
    with pytest.raises(UsageError):
        open_registry(url, clock=FakeClock())


def test_the_table_holds_every_scheme_once() -> None:
    assert set(REGISTRIES) == {"", "file"}
    assert all(scheme == scheme.lower() for scheme in REGISTRIES)


def test_commands_that_write_markers_and_requests_import_no_heavy_library() -> None:
    code = (
        "import sys; import mergenode.adapters.registries.marker, mergenode.adapters.registries.requests; "
        "print([name for name in ('torch', 'numpy', 'watchdog', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
