"""Whatever a plug-in does in whichever call, the node gets an error that says what to do, and nothing of it remains."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.tasks.calls import Calls
from mergenode.adapters.tasks.child import Answers
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.errors import TransientError, TransientReason
from mergenode.ports.task import TaskProgram

SOURCE = '''
import json, os, signal, sys, time
import torch

class Good:
    """Each number that it returns goes through ``spoilt``."""

    def build_model(self):
        return torch.nn.Linear(3, 2)

    def calibration_batches(self):
        yield torch.ones(4, 3)
        yield torch.ones(1, 3) * 2

    def loss(self, model, batch):
        return self.spoilt(model(batch).square().mean())

    def evaluate(self, model):
        return {"score": self.spoilt(model.weight.sum())}

    def spoilt(self, value):
        return value

class Raises(Good):
    def spoilt(self, value):
        raise ValueError("no such data set")

class RaisesElsewhere(Good):
    def spoilt(self, value):
        return json.loads("{")

class NotANumber(Good):
    def spoilt(self, value):
        return value * float("nan")

class WrongType(Good):
    def spoilt(self, value):
        return "good"

class WrongShape(Good):
    def spoilt(self, value):
        return value.expand(2)

class Hangs(Good):
    def spoilt(self, value):
        time.sleep(3600)

class Leaks(Good):
    kept = []
    def spoilt(self, value):
        while True:
            self.kept.append(torch.ones(1 << 22))

class Kills(Good):
    def spoilt(self, value):
        os.kill(os.getpid(), signal.SIGKILL)

class Exits(Good):
    def spoilt(self, value):
        print("giving up", file=sys.stderr)
        os._exit(3)

class ClosesDescriptors(Good):
    def spoilt(self, value):
        os.closerange(0, 1024)
        return value

def daemon():
    """Leaves the group and the session, and goes on for an hour with all that it inherited."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)

class ForksAndExits(Good):
    def spoilt(self, value):
        daemon()
        os._exit(3)

class PrintsAndForks(Good):
    """A quarter of a gigabyte in each call."""
    def spoilt(self, value):
        line = b"noise " * 100_000
        for _ in range(450):
            os.write(1, line)
        daemon()
        return value

class WritesNoGradient(Good):
    """Knows where its answers go, and says that it is done."""
    def spoilt(self, value):
        for fd in range(3, 32):
            try:
                os.write(fd, b'{"result":true}\\n')
            except OSError:
                pass
        return value
'''

Asked = Callable[[TaskWorker, Path], Any]

CALLS: Mapping[str, Asked] = {
    "evaluate": lambda worker, folder: worker.evaluate(folder / "start"),
    "loss": lambda worker, folder: worker.try_method("loss", folder / "start"),
    "gradient": lambda worker, folder: worker.gradient(folder / "start", folder / "out/gradient.safetensors"),
    "losses": lambda worker, folder: worker.losses(folder / "start", folder / "end", [0.0, 0.5]),
    "losses_by_batch": lambda worker, folder: worker.losses_by_batch(folder / "start"),
}
NAMED = {
    "evaluate": r"evaluate",
    "loss": r"loss",
    "gradient": r"the gradient of loss\(\)",
    "losses": r"loss\(\) between two models",
    "losses_by_batch": r"loss\(\) batch by batch",
}
"""What a message calls them."""


class Here(TaskWorker):
    """Without a process: what a plug-in raises or returns goes the same way, the rest is left out."""

    def _answer(self, request: Mapping[str, Any], *_: object) -> dict[str, Any]:
        told = Told(-1)
        try:
            return {"result": Calls(self._options.entrypoint or "", lambda done, total: None).answer(request)}
        except Exception as error:  # noqa: BLE001 - the hook of the process gets all of them
            told.fail(type(error), error, error.__traceback__)
        return told.sent[0]


class Told(Answers):
    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two checkpoints, a place for a gradient, the plug-in; afterwards it is as if the plug-in had never been."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "spoilt_task.py").write_text(SOURCE)
    for name, value in (("start", 1.0), ("end", 3.0)):
        (tmp_path / name).mkdir()
        save_file(
            {"weight": torch.full((2, 3), value), "bias": torch.zeros(2)}, tmp_path / name / "model.safetensors"
        )  # fmt: skip
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("STARTED_BY_THIS_TEST", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    descriptors = sorted(os.listdir("/proc/self/fd"))
    yield tmp_path
    assert remaining(tmp_path) == []
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert not [thread for thread in threading.enumerate() if thread.name == "plug-in output"]


def remaining(folder: Path) -> list[str]:
    """Processes that inherited the environment of the test. Zombies have none."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"STARTED_BY_THIS_TEST={folder}".encode() in environment.read_bytes():
                found.append(environment.parent.name)
        except OSError:
            continue
    return found


def worker(kind: type[TaskWorker], folder: Path, name: str, timeout: float = 60.0) -> TaskWorker:
    program = TaskProgram(
        entrypoint=f"spoilt_task:{name}", path=folder / "plugins", memory_limit=1 << 30, timeout=timeout
    )
    return kind(program)


def refused(kind: type[TaskWorker], folder: Path, call: str, name: str, timeout: float = 60.0) -> TransientError:
    """The error of a call; what the last good call wrote is still there, and nothing else."""
    (folder / "out/gradient.safetensors").write_bytes(b"the last good one")
    with worker(kind, folder, name, timeout) as asked, pytest.raises(TransientError) as caught:
        CALLS[call](asked, folder)
    assert os.listdir(folder / "out") == ["gradient.safetensors"]
    assert (folder / "out/gradient.safetensors").read_bytes() == b"the last good one"
    assert caught.value.reason is TransientReason.TASK_FAILED
    return caught.value


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("name", "said", "todo"),
    [
        ("Raises", r"{call}: ValueError: no such data set \(.*spoilt_task.py, line \d+, in spoilt\)", "task check"),
        ("RaisesElsewhere", r"{call}: JSONDecodeError: .* \(.*spoilt_task.py, line \d+, in spoilt\)", "task check"),
        ("NotANumber", r"(evaluate|loss)\(\) returned nan", "finite"),
        ("WrongType", r"(evaluate|loss)\(\) returned str", "has to"),
        ("WrongShape", r"(evaluate|loss)\(\) returned (a tensor of shape \[2\]|Tensor)", "has to"),
    ],
)
def test_what_it_raises_and_returns(folder: Path, call: str, name: str, said: str, todo: str) -> None:
    if (call, name) == ("losses_by_batch", "NotANumber"):  # it may be the checkpoint's fault
        assert CALLS[call](worker(Here, folder, name), folder) == [float("inf")] * 2
        return
    error = refused(Here, folder, call, name)
    with pytest.raises(TransientError, match=said.replace("{call}", NAMED[call])):
        raise error
    assert todo in error.hint


@pytest.mark.parametrize(
    ("name", "call", "said", "todo", "timeout"),
    [
        ("Hangs", "losses", "{call} took longer than 1 seconds", "task.timeout", 1.0),
        ("Leaks", "gradient", "{call}: .*(MemoryError|allocate memory)", "task.memory_limit", 60.0),
        ("Kills", "gradient", "ended by signal SIGKILL during {call}", "task.memory_limit", 60.0),
        ("Kills", "losses_by_batch", "ended by signal SIGKILL during {call}", "task.memory_limit", 60.0),
        ("Exits", "loss", "ended with status 3 during {call}: giving up", "task.memory_limit", 60.0),
        ("ForksAndExits", "evaluate", "ended with status 3 during {call}", "task.memory_limit", 60.0),
        ("ClosesDescriptors", "gradient", "ended .* during {call}", "task.memory_limit", 60.0),
        ("WritesNoGradient", "gradient", "{call} answered with", "task check", 60.0),
    ],
)
def test_what_it_does_to_its_process(
    folder: Path, name: str, call: str, said: str, todo: str, timeout: float
) -> None:  # fmt: skip
    error = refused(TaskWorker, folder, call, name, timeout)
    with pytest.raises(TransientError, match=said.replace("{call}", NAMED[call])):
        raise error
    assert todo in error.hint


def test_a_module_that_python_cannot_read(folder: Path) -> None:
    (folder / "plugins" / "unreadable_task.py").write_text("class Task\n")
    program = TaskProgram(
        entrypoint="unreadable_task:Task", path=folder / "plugins", memory_limit=1 << 30, timeout=60.0
    )  # fmt: skip
    with TaskWorker(program) as asked, pytest.raises(TransientError) as caught:
        asked.methods()
    assert caught.value.message.startswith("task plug-in unreadable_task:Task: its start: SyntaxError: ")
    assert caught.value.message.endswith("(unreadable_task.py, line 1)")


class Forged(TaskWorker):
    answer: Any

    def _answer(self, *_: object) -> dict[str, Any]:
        return {"result": self.answer}


@pytest.mark.parametrize("call", ["evaluate", "gradient", "losses"])
@pytest.mark.parametrize("answer", [True, None, "1.0", {}, {"a": None}, {"a": float("nan")}, [1.0, "b"], [0.5]])
def test_what_it_writes_in_place_of_an_answer(folder: Path, call: str, answer: object) -> None:
    """It shares its process with what answers for it."""
    asked = worker(Forged, folder, "Good")
    asked.answer = answer
    with pytest.raises(TransientError, match="something else"):
        CALLS[call](asked, folder)
    assert os.listdir(folder / "out") == []


def test_gigabytes_of_words_and_daemons_do_no_harm(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with worker(TaskWorker, folder, "PrintsAndForks") as asked:
        assert asked.evaluate(folder / "start") == {"score": 6.0}
        assert "loss 9" in asked.try_method("loss", folder / "start")
        assert asked.gradient(folder / "start", folder / "out/gradient.safetensors") == 22.5
        assert asked.losses(folder / "start", folder / "end", [1.0]) == [202.5]
        assert len(remaining(folder)) > 1
    assert capfd.readouterr() == ("", "")
    found = load_file(folder / "out/gradient.safetensors")
    assert torch.equal(found["weight"], torch.full((2, 3), 7.5))
    assert torch.equal(found["bias"], torch.full((2,), 4.5))
