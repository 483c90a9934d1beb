"""The rules of the source tree, asked of the sources themselves."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for path in (ROOT / "mergenode").rglob("*.py") if "_pb2" not in path.name)
"""Without what the protocol compiler wrote."""
LONGEST_FILE = 400
LONGEST_FUNCTION = 70
"""Statements and all; review asks for 40."""
VAGUE = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "manager",
    "handler",
    "handlers",
    "core",
    "base_classes",
}
SURVIVORS = {
    "mergenode/adapters/spans/queue.py": "a collector or its library must not hold up the node",
    "mergenode/adapters/observers/fan_out.py": "what only watches must never stop a fold",
    "mergenode/daemon/loop.py": "a defect met by one contribution must not stop the others",
    "mergenode/daemon/observation.py": "a defect met in one registry must not stop the others",
}
"""The only places that may keep every exception, and why."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_import_contracts_are_kept() -> None:
    """The layers and what they must not know: pyproject.toml, section importlinter."""
    script = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_is_named_in_the_layers() -> None:
    configuration = (ROOT / "pyproject.toml").read_text()
    layers = re.search(r"layers = \[(.*?)\]", configuration, re.DOTALL)
    assert layers is not None
    known = set(re.findall(r"\w+", layers[1])) | {"__main__", "__init__"}
    assert {path.stem for path in (ROOT / "mergenode").iterdir() if not path.name.startswith("__py")} <= known | {"py"}


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_module(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE, "split it by what it is about"
    assert path.stem.lower() not in VAGUE, "name it for what it does"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "say in one sentence what the module is for"
    for node in ast.walk(tree):
        _check_node(path, node)
    for number, line in enumerate(text.splitlines(), start=1):
        assert not re.search(r"#.*\b(TODO|FIXME|XXX|HACK)\b", line), f"{number}: {line}"
        if "type: ignore" in line:
            assert re.search(r"type: ignore\[[\w, -]+\]\s+#? ?\S", line), f"{number}: an ignore without a reason"


def _check_node(path: Path, node: ast.AST) -> None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{node.name} is too long"
        assert node.returns is not None, f"{node.name} says not what it returns"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        assert node.func.id not in ("print", "eval", "exec", "input", "breakpoint"), f"line {node.lineno}"
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in modules:
            assert module.split(".")[0] not in ("pickle", "shelve", "marshal", "dill", "joblib"), "nothing is unpickled"
    if isinstance(node, ast.ExceptHandler):
        caught = ast.unparse(node.type) if node.type else "everything"
        passes_on = isinstance(node.body[-1], ast.Raise)
        if caught in ("everything", "Exception", "BaseException") and not passes_on:
            assert named(path) in SURVIVORS, f"line {node.lineno} catches {caught}"


def test_nothing_is_loaded_by_torch() -> None:
    """torch.load reads pickles."""
    for path in SOURCES:
        assert not re.search(r"torch\.load\b|weights_only", path.read_text()), named(path)


def test_survivors_are_still_needed() -> None:
    for name in SURVIVORS:
        assert "except Exception" in (ROOT / name).read_text()


def test_tests_mirror_the_package() -> None:
    """Every folder of tests below a layer is a folder or a module of that layer."""
    layers = {path.name for path in (ROOT / "mergenode").iterdir() if path.is_dir()}
    for folder in (ROOT / "tests").iterdir():
        if folder.name in layers:
            for below in folder.rglob("*/"):
                if below.is_dir() and "__pycache__" not in below.parts:
                    assert (ROOT / "mergenode" / below.relative_to(ROOT / "tests")).exists(), named(below)


def test_the_project_speaks_of_itself_alone() -> None:
    """No paths of a developer's machine in what is delivered."""
    for path in [*SOURCES, *sources("tests", "benchmarks"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text()
        assert not re.search(r"/(home|Users|work)/[a-z]", text), named(path)


def test_every_sleep_in_the_package_is_a_wait_for_somebody_else() -> None:
    """The daemon waits on its pipe; only a command that watches another process polls."""
    sleeping = {named(path) for path in SOURCES if re.search(r"\btime\.sleep\(", path.read_text())}
    assert sleeping <= {"mergenode/cli/ingest.py", "mergenode/cli/changes.py", "mergenode/demo/node.py"}, sleeping
