"""Processes that fold and say what memory it took.

``python -m tests.support.measured_fold`` imports everything once, then forks one child per job: a line of JSON in, a
line out. A job names ``base``, ``models`` (folded in this order, one committed generation each), ``method``,
``memory_limit``, ``threads`` and ``work``, an empty directory; ``merge`` folds them by one merge instead; ``naive``
loads everything at once instead, as a script would; ``rlimit_data`` bounds the private memory of the child.
"""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from mergenode.adapters.engines.local.engine import Resources
from mergenode.errors import MergenodeError
from tests.support.local_node import LocalNode, load_model, merge

MIB = 1 << 20
OFTEN = 4
"""Up to so many folds every one is exported, of more only the last."""
ROOT = Path(__file__).parent.parent.parent


def memory(field: str) -> int:
    """A field of this process's status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


class Peak:
    """The most memory inside the block: ``resident`` in all, ``anonymous`` never less than the truth.

    File pages (code) only come in while it runs, so all that is resident at the peak less those of the start bounds
    the anonymous part.
    """

    def __enter__(self) -> Self:
        self._file_pages = memory("RssFile")
        Path("/proc/self/clear_refs").write_text("5")  # from now on VmHWM is the peak of what follows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resident = memory("VmHWM")
        self.anonymous = self.resident - self._file_pages


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """``anonymous`` and ``resident``: the peak of every fold, in bytes; ``before``: anonymous memory at the start."""
    work, base, models = Path(job["work"]), Path(job["base"]), [Path(model) for model in job["models"]]
    resources = Resources(memory_limit=job["memory_limit"], threads=job.get("threads", 1), device="cpu")
    options = job.get("options", {})
    told: dict[str, Any] = {"anonymous": [], "resident": [], "before": memory("RssAnon"), "private": memory("VmData")}
    peak = Peak()
    try:
        if job.get("merge"):
            with peak:
                merge(base, work / "merged", models, method=job["method"], resources=resources, **options)
            told["anonymous"], told["resident"] = [peak.anonymous], [peak.resident]
            return told
        node = LocalNode(work, base, job["method"], options, resources)
        told["planned"] = node.engine.check_memory()
        for number, model in enumerate(models):
            with peak:
                node.fold(model)
                if len(models) <= OFTEN or number == len(models) - 1:
                    node.export(work / f"v{number}")
            told["anonymous"].append(peak.anonymous)
            told["resident"].append(peak.resident)
    except MergenodeError as error:
        told.update(error=type(error).__name__, message=error.message, hint=error.hint)
    return told


def naive(job: dict[str, Any]) -> dict[str, Any]:
    """An average as a script does it: everything in memory, in float32."""
    base, *models = (
        {name: tensor.float() for name, tensor in load_model(Path(path)).items()}
        for path in (job["base"], *job["models"])
    )
    deltas = [{name: tensor - base[name] for name, tensor in model.items()} for model in models]
    total = sum(float(torch.stack([delta[name] for delta in deltas]).mean(0).norm()) for name in base)
    return {"total": total}


def child(job: dict[str, Any], answer: int) -> int:
    if "rlimit_data" in job:
        resource.setrlimit(resource.RLIMIT_DATA, (job["rlimit_data"], job["rlimit_data"]))
    told = naive(job) if job.get("naive") else perform(job)
    os.write(answer, json.dumps(told).encode())
    return 0


def serve() -> None:
    for line in sys.stdin:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.close(reading)
                code = child(json.loads(line), writing)
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer = {**json.loads(told or "{}"), "exit": os.waitstatus_to_exitcode(status)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Runner:
    """The serving process, from the outside."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.measured_fold"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
            env=environment,
        )  # fmt: skip

    def run(self, **job: Any) -> dict[str, Any]:
        """What a fresh child tells about the job; ``exit`` is its exit code, negative for a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


if __name__ == "__main__":
    gc.freeze()  # the children share these objects; collecting them would copy their pages
    if len(sys.argv) > 1:  # one job, in this process
        print(json.dumps((naive if json.loads(sys.argv[1]).get("naive") else perform)(json.loads(sys.argv[1]))))
    else:
        serve()
