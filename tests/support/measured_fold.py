"""A process that folds and says what memory it took: ``python -m tests.support.measured_fold JSON``.

The job names ``base``, ``models`` (folded in this order, one committed generation each), ``method``, ``work`` (an
empty directory), ``memory_limit`` and ``threads``. One line of JSON comes out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from mergenode.adapters.engines.local.engine import Resources
from mergenode.errors import MergenodeError
from tests.support.local_node import LocalNode

MIB = 1 << 20


def memory(field: str) -> int:
    """A field of this process's status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def forget_peak() -> None:
    """From now on ``VmHWM`` is the peak of what follows."""
    Path("/proc/self/clear_refs").write_text("5")


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """``peaks``: per fold, the most anonymous memory at any time, in bytes, never less than the truth.

    Resident file pages (code) only grow, so the peak of everything less the file pages before is an upper bound.
    """
    resources = Resources(memory_limit=job["memory_limit"], threads=job["threads"], device="cpu")
    node = LocalNode(Path(job["work"]), Path(job["base"]), job["method"], job.get("options", {}), resources)
    told: dict[str, Any] = {"peaks": [], "resident": [], "anonymous_before": memory("RssAnon")}
    try:
        told["planned"] = node.engine.check_memory()
        for number, model in enumerate(job["models"]):
            file_pages = memory("RssFile")
            forget_peak()
            node.fold(Path(model))
            if job.get("export"):
                node.export(Path(job["work"]) / f"v{number}")
            told["peaks"].append(memory("VmHWM") - file_pages)
            told["resident"].append(memory("VmHWM"))
    except MergenodeError as error:
        told.update(error=type(error).__name__, message=error.message, hint=error.hint)
    return told


if __name__ == "__main__":
    print(json.dumps(perform(json.loads(sys.argv[1]))))
