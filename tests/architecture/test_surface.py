"""What others rely on: names, commands, cheap start."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mergenode
from mergenode.cli.root import COMMANDS
from mergenode.errors import FatalError, MergenodeError, RejectedError, RejectReason, TransientError, UsageError
from mergenode.ledger.records import KINDS
from mergenode.methods import METHODS, build_method
from mergenode.methods.contract import Method
from mergenode.settings import METHOD_SECTIONS, method_options
from mergenode.types import DType, TensorSpec
from tests.support.help_text import help_text

ROOT = Path(__file__).parents[2]
HELP = ROOT / "tests/golden/help.txt"


def test_help_equals_the_golden_text() -> None:
    """Commands and options are promises; see ``tests/support/help_text.py`` on how to change them."""
    assert help_text() == HELP.read_text()


def test_every_command_is_there_and_explained() -> None:
    text = HELP.read_text()
    for name in COMMANDS:
        assert f"$ mergenode {name} --help" in text
        assert (ROOT / f"mergenode/cli/{name}.py").is_file()


def test_methods_equal_those_of_the_settings() -> None:
    """The settings know names and options without importing torch; the table is the truth."""
    assert list(METHODS) == list(METHOD_SECTIONS)
    for name, factory in METHODS.items():
        assert method_options(name) == frozenset(inspect.signature(factory).parameters), name


@pytest.mark.parametrize("name", list(METHODS))
def test_defaults_of_the_settings_are_those_of_the_factory(name: str) -> None:
    section, parameters = METHOD_SECTIONS[name], inspect.signature(METHODS[name]).parameters
    for option in method_options(name):
        default = section.model_fields[option].default
        assert default is None or default == parameters[option].default, option


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_states_its_properties(name: str) -> None:
    method = build_method(name, {})
    assert isinstance(method, Method) and method.name == name
    assert method.reference and method.state_factor(TensorSpec("layer.weight", DType.F32, (8, 4))) > 0
    assert method.combinable <= method.commutative, "what is combined in any tree has no order"


def test_the_package_exports_its_version_alone() -> None:
    assert mergenode.__all__ == ["__version__"]
    assert f'version = "{mergenode.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_errors_are_three_families() -> None:
    for family in (TransientError, RejectedError, FatalError):
        assert issubclass(family, MergenodeError)
    assert issubclass(UsageError, FatalError)
    assert not issubclass(RejectedError, FatalError) and not issubclass(TransientError, FatalError)


def test_reason_codes_are_closed_and_plain() -> None:
    assert all(reason.value == reason.name.lower() for reason in RejectReason)


def test_every_reason_code_is_used() -> None:
    text = "".join(path.read_text() for path in (ROOT / "mergenode").rglob("*.py") if path.name != "errors.py")
    assert [reason for reason in RejectReason if f"RejectReason.{reason.name}" not in text] == []


def test_kinds_of_facts() -> None:
    """Stored for ever: a name never changes its meaning."""
    first = ["initialised", "discovered", "rejected", "duplicate", "folded", "published", "pruned"]
    of_unions = ["yielded", "deferred", "united", "heard", "ruled", "forgotten"]
    of_pools = ["selected", "deselected", "quarantined", "released", "scored"]
    assert list(KINDS) == [*first, "retracted", "admitted", "restated", *of_unions, "mixed", *of_pools]


def modules_after(*args: object) -> set[str]:
    """Top-level modules that a command line imports; it has to succeed."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('\\n' + ' '.join({name.split('.')[0] for name in sys.modules})))\n"
        f"sys.argv = {['mergenode', *map(str, args)]!r}\n"
        "from mergenode.__main__ import main\nmain()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("args", [["--help"], ["config", "check", "node.yaml"], ["merge", "--help"]])
def test_what_needs_no_model_imports_no_torch(args: list[str], tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "node.yaml").write_text("base: ./base\nregistries: []\n")
    modules = modules_after(*(tmp_path / arg if arg == "node.yaml" else arg for arg in args))
    assert "mergenode" in modules
    assert not modules & {"torch", "numpy", "scipy", "safetensors", "starlette", "uvicorn", "prometheus_client"}
