"""A node on disk with a real ledger, and a way to run commands in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.cli.root import cli
from mergenode.ledger.records import Fact
from tests.support import facts

GROUPS = (
    {
        "group": "*",
        "parameters": 3000,
        "delta_norm": 1.5,
        "kept_norm": 1.2,
        "merge_norm": 2.0,
        "base_norm": 40.0,
        "cosine": 0.25,
        "share_kept": 0.64,
        "effective_rank": 12.5,
        "capacity_taken": 0.125,
    },
    {
        "group": "model.layers.0",
        "parameters": 2000,
        "delta_norm": 0.5,
        "kept_norm": 0.2,
        "merge_norm": 1.0,
        "base_norm": 0.0,
        "cosine": None,
        "share_kept": None,
        "effective_rank": None,
        "capacity_taken": None,
    },
)

HOSTILE = "evil\x1b[31m\n[bold]\u202ename"


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command line; the result has exit_code, stdout and stderr."""

    def invoke(*args: object, **environment: str) -> Result:
        result = CliRunner().invoke(cli, [str(arg) for arg in args], env={"COLUMNS": "200", **environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings file of a node that has never run."""
    (tmp_path / "base").mkdir()
    (tmp_path / "inbox").mkdir()
    file = tmp_path / "node.yaml"
    file.write_text("base: ./base\nregistries: [./inbox]\nnode: {name: node-t}\n")
    return file


@pytest.fixture
def ledger(config: Path) -> Iterator[SqliteLedger]:
    """The node's ledger, open for writing."""
    state = config.parent / "state"
    state.mkdir()
    opened = SqliteLedger(state / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def history(ledger: SqliteLedger, config: Path) -> list[Fact]:
    """Two folds, one rejection, one duplicate, one that waits, two versions of which one is on disk."""
    path = config.parent / "published/v000002"
    told: list[Fact] = [
        facts.initialised(),
        facts.discovered(1),
        facts.folded(1),
        facts.published(1),
        facts.discovered(2),
        facts.rejected(2, hint="train [again]"),
        facts.discovered(3),
        facts.folded(3, generation=2, count=2, groups=GROUPS, seconds=75.0, warnings=("odd\x1b",)),
        facts.published(2, path=str(path)),
        facts.pruned(1),
        facts.discovered(4),
        facts.duplicate(4),
        facts.discovered(5, name=HOSTILE),
    ]
    for fact in told:
        ledger.append(fact)
    path.mkdir(parents=True)
    manifest = {
        "schema": "mergenode.version/1",
        "version": 2,
        "base": facts.digest(0),
        "lineage": facts.digest(9),
        "count": 2,
        "generation": 2,
        "tensors": {"a": facts.digest(4)},
        "contributions": [
            {"generation": 1, "name": "m1", "kind": "full", "norm": 1.5, "cosine": None, "share_kept": None},
            {
                "generation": 2,
                "name": HOSTILE,
                "kind": "adapter",
                "norm": 1.25,
                "cosine": -0.5,
                "share_kept": 0.5,
            },
        ],
    }
    (path / "mergenode.json").write_text(json.dumps(manifest))
    return told
