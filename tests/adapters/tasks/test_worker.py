"""What a plug-in does, good or bad, becomes a number or a clear error, and nothing of it remains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.errors import FatalError, MergenodeError, TransientError, TransientReason, UsageError
from mergenode.ports.engine import Stopped
from mergenode.ports.observer import Observer
from mergenode.ports.task import TaskProgram
from tests.support.heard import Heard

SOURCE = '''
import os, signal, subprocess, sys, time
import torch

class Good:
    """Scores are sums of the weights; it counts how often its model was built."""
    built = 0

    def build_model(self):
        Good.built += 1
        return torch.nn.Linear(3, 2)

    def evaluate(self, model):
        assert not model.training and not torch.is_grad_enabled()
        print("noise " * 100_000)
        return {"weight": model.weight.sum(), "bias": float(model.bias.sum()), "built": Good.built}

class Raises(Good):
    def evaluate(self, model):
        raise ValueError("no such data set")

class Kills(Good):
    def evaluate(self, model):
        os.kill(os.getpid(), signal.SIGKILL)

class Exits(Good):
    def evaluate(self, model):
        print("giving up", file=sys.stderr)
        raise SystemExit(3)

class Hangs(Good):
    def evaluate(self, model):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        with open(os.environ["PLUGIN_CHILD"], "w") as file:
            file.write(str(child.pid))
        time.sleep(3600)

class Leaks(Good):
    def evaluate(self, model):
        kept = []
        while True:
            kept.append(torch.ones(1 << 22))

class NotANumber(Good):
    def evaluate(self, model):
        return {"loss": float("nan")}

class Forges(Good):
    """Writes rubbish into every descriptor that it finds."""
    def evaluate(self, model):
        for fd in range(3, 1024):
            try:
                os.write(fd, b"[1, 2]\\n")
            except OSError:
                pass
        return {"score": 1.0}
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "some_task.py").write_text(SOURCE)
    (tmp_path / "plugins" / "broken_task.py").write_text("import a_module_that_nobody_has\n")
    return tmp_path / "plugins"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", {"weight": torch.full((2, 3), 0.5).bfloat16(), "bias": torch.tensor([1.0, 2.0])})


def saved(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors")
    return directory


def worker(plugins: Path, name: str, timeout: float = 60.0, observer: Observer | None = None) -> TaskWorker:
    program = TaskProgram(entrypoint=name, path=plugins, memory_limit=1 << 30, timeout=timeout)
    return TaskWorker(program, observer=observer)


def failure_of(plugins: Path, name: str, checkpoint: Path, timeout: float = 60.0) -> MergenodeError:
    with worker(plugins, name, timeout) as asked, pytest.raises(MergenodeError) as caught:
        asked.evaluate(checkpoint)
    return caught.value


def test_scores_come_from_the_checkpoint_that_is_asked_about(
    plugins: Path, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = saved(tmp_path / "other", {"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    heard = Heard()
    with worker(plugins, "some_task:Good", observer=heard) as asked:
        assert asked.methods() == {"build_model", "evaluate"}
        assert asked.evaluate(checkpoint) == {"weight": 3.0, "bias": 3.0, "built": 1.0}
        assert asked.evaluate(other / "model.safetensors") == {"weight": 6.0, "bias": 0.0, "built": 1.0}
        with pytest.raises(FatalError, match="no-such"):
            asked.evaluate(tmp_path / "no-such")
        assert asked.evaluate(checkpoint) == {"weight": 3.0, "bias": 3.0, "built": 1.0}  # in a new process
    assert capfd.readouterr() == ("", "")
    assert {(word.activity, word.subject) for word in heard.words} == {("evaluation", "evaluate")}
    assert [word.over for word in heard.words] == [False, True] * 4, "what failed is over, too"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Raises", r"evaluate: ValueError: no such data set \(.*some_task.py, line \d+, in evaluate\)"),
        ("Kills", "ended by signal SIGKILL during evaluate"),
        ("Exits", "ended with status 3 during evaluate: giving up"),
        ("NotANumber", "returned nan for 'loss'"),
    ],
)
def test_what_goes_wrong_in_the_plugin_is_tried_again_later(
    plugins: Path, checkpoint: Path, name: str, said: str
) -> None:
    error = failure_of(plugins, f"some_task:{name}", checkpoint)
    assert isinstance(error, TransientError)
    assert error.reason is TransientReason.TASK_FAILED
    assert error.hint
    with pytest.raises(TransientError, match=said):
        raise error


def test_a_leak_ends_at_the_limit(plugins: Path, checkpoint: Path) -> None:
    error = failure_of(plugins, "some_task:Leaks", checkpoint)
    assert isinstance(error, TransientError)
    assert "task.memory_limit" in error.hint


def test_rubbish_on_the_pipe_is_no_answer(plugins: Path, checkpoint: Path) -> None:
    assert isinstance(failure_of(plugins, "some_task:Forges", checkpoint), TransientError)


def test_what_only_the_operator_can_mend_is_fatal(plugins: Path, checkpoint: Path) -> None:
    error = failure_of(plugins, "some_task:Absent", checkpoint)
    assert type(error) is FatalError
    assert "has no class 'Absent'" in error.message
    assert error.hint


def test_a_module_that_misses_another_one_says_which(plugins: Path, checkpoint: Path) -> None:
    error = failure_of(plugins, "broken_task:Task", checkpoint)
    assert "a_module_that_nobody_has" in error.message


def test_without_a_plugin_it_is_a_question_of_settings(checkpoint: Path) -> None:
    with TaskWorker(TaskProgram(entrypoint=None)) as asked, pytest.raises(UsageError, match="no task plug-in"):
        asked.evaluate(checkpoint)


@pytest.fixture
def left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file into which ``Hangs`` writes the number of a process that it started."""
    monkeypatch.setenv("PLUGIN_CHILD", str(tmp_path / "child"))
    return tmp_path / "child"


def test_a_plugin_that_hangs_is_ended_with_all_that_it_started(
    plugins: Path, checkpoint: Path, left_behind: Path
) -> None:
    error = failure_of(plugins, "some_task:Hangs", checkpoint, timeout=6.0)
    assert isinstance(error, TransientError)
    assert "took longer than 6 seconds" in error.message
    assert not is_running(int(left_behind.read_text()))


def is_running(pid: int) -> bool:
    """Zombies do not run: whoever inherited them reaps them in its own time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_node_that_ends_does_not_wait(plugins: Path, checkpoint: Path, left_behind: Path) -> None:
    program = TaskProgram(entrypoint="some_task:Hangs", path=plugins, timeout=600.0)
    with TaskWorker(program, stop=left_behind.exists) as asked, pytest.raises(Stopped):
        asked.evaluate(checkpoint)
