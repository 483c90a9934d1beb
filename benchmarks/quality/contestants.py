"""Which methods are compared, and with which options."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from inspect import getmodule
from pathlib import Path

from blake3 import blake3

from mergenode.errors import UsageError
from mergenode.methods import METHODS, build_method
from mergenode.methods.contract import Method

LITERAL = "opcm_literal"
"""OPCM in memory, see ``literal_opcm``: no method of mergenode, scored like one."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row of the table. ``label``: as printed. ``refined``: trained on made-up texts after each merge."""

    label: str
    method: str
    options: Mapping[str, object] = field(default_factory=dict)
    refined: bool = False

    @property
    def literal(self) -> bool:
        return self.method == LITERAL

    def build(self) -> Method:
        return build_method(self.method, self.options)

    @property
    def needs_side_cars(self) -> bool:
        return not self.literal and bool(self.build().needs)

    @property
    def code(self) -> str:
        """Digest of the source that the result depends on: the method's module and what it imports of mergenode."""
        if self.literal:
            return _digest([Path(__file__).with_name("literal_opcm.py")])
        module = getmodule(METHODS[self.method])
        assert module is not None
        found = _closure(module.__name__, {})
        for name in _REFINING if self.refined else ():
            _closure(name, found)
        return _digest(sorted(found))


_REFINING = (
    "mergenode.maths.probe_sums", "mergenode.adapters.tasks.refining", "benchmarks.quality.refining",
    "benchmarks.quality.refining_task", "benchmarks.quality.probes",
)  # fmt: skip

_VARIANTS = (
    Contestant("average", "average"),
    Contestant("task arithmetic 0.3", "task_arithmetic"),
    Contestant("OPCM block", "opcm", {"variant": "block"}),
    Contestant("OPCM block, literal", LITERAL),
    Contestant("Iso-C", "iso"),
    Contestant("TSVM", "tsvm"),
    Contestant("TSVM, adaptive ranks", "tsvm", {"rank": "adaptive"}),
    Contestant("TSVM, agreeing", "tsvm", {"merge": "agree", "rank_share": 2.0}),
    Contestant("TSVM, agreeing, refined", "tsvm", {"merge": "agree", "rank_share": 2.0}, refined=True),
    Contestant("SWUDI", "swudi"),
    Contestant("SWUDI, two-sided", "swudi", {"sides": "both"}),
    Contestant("ASWUDI", "aswudi", {"sides": "input"}),
    Contestant("ASWUDI, two-sided", "aswudi", {"sides": "both"}),
    Contestant("TIES", "ties"),
    Contestant("DARE 0.5", "dare"),
    Contestant("MagMax", "magmax"),
    Contestant("WIDEN", "widen"),
    Contestant("OPCM block_orthogonal", "opcm", {"variant": "block_orthogonal"}),
    Contestant("OPCM diagonal", "opcm", {"variant": "diagonal"}),
    Contestant("OPCM paper", "opcm", {"variant": "paper"}),
    Contestant("Fisher, side-cars", "fisher"),
    Contestant("RegMean, side-cars", "regmean"),
)

SMALL = ("average", "task arithmetic 0.3", "OPCM block", "TSVM", "ASWUDI, two-sided")
"""Labels of the small form."""


def contestants() -> list[Contestant]:
    """All rows that this installation can run: the list above, then every other method with its defaults."""
    rows = [row for row in _VARIANTS if row.literal or _runs(row)]
    named = {row.method for row in rows}
    others = [Contestant(name, name) for name in METHODS if name not in named]
    return rows + [row for row in others if _runs(row)]


def _runs(row: Contestant) -> bool:
    try:
        row.build()
    except UsageError:
        return False
    return True


def _closure(module: str, found: dict[Path, None]) -> dict[Path, None]:
    """Source files of ``module`` and of everything of mergenode that it imports, however deep."""
    spec = find_spec(module)
    if spec is None or spec.origin is None or Path(spec.origin) in found:
        return found
    found[Path(spec.origin)] = None
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            # A package's own file lists all methods: what one of them is does not depend on the others.
            if name.startswith("mergenode.") and name != "mergenode.methods":
                _closure(name, found)
    return found


def _digest(files: list[Path]) -> str:
    hasher = blake3()
    for file in files:
        hasher.update(file.read_bytes())
    return hasher.hexdigest()[:16]
