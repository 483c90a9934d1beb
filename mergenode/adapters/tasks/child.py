"""The process of a plug-in: takes requests by JSON lines, calls the plug-in, answers with numbers.

``python -m mergenode.adapters.tasks.child REQUESTS ANSWERS MEMORY_LIMIT ENTRYPOINT``, the first two being inherited
descriptors. It ends with the first failure, so that no call ever meets what an earlier one left behind, and when the
request pipe closes, which is how it learns that the node is gone.
"""

from __future__ import annotations

import os
import queue
import resource
import signal
import sys
import threading
import traceback
from contextlib import suppress
from types import TracebackType
from typing import Any

from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.lines import LineReader, encode
from mergenode.adapters.tasks.started import MARK, end_marked

_FOREVER = 1e9
_MESSAGE_CHARACTERS = 2000


def main(arguments: list[str]) -> None:
    """Serve until the request pipe closes. Never returns normally after a failure: see ``Answers.fail``."""
    requests, answers, memory_limit = (int(argument) for argument in arguments[:3])
    for fd in (requests, answers):
        os.set_inheritable(fd, False)  # what the plug-in starts must not hold our pipes open
    _limit(memory_limit)
    told, mark = Answers(answers), os.environ.get(MARK, "")
    sys.excepthook = told.fail
    arriving: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, arriving, mark), name="requests", daemon=True).start()
    from mergenode.adapters.tasks.calls import Calls  # noqa: PLC0415 - imports torch: the limit and the hook come first

    calls = Calls(arguments[3], told.progress)
    told.send({"result": "started"})
    while True:
        told.send({"result": calls.answer(arriving.get())})


class Answers:
    """What this process tells the node."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, message: dict[str, Any]) -> None:
        line = memoryview(encode(message))
        while line.nbytes:
            line = line[os.write(self._fd, line) :]

    def progress(self, done: int, total: int) -> None:
        self.send({"progress": [done, total]})

    def fail(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """The hook for uncaught exceptions: tell the node what went wrong; the interpreter then ends."""
        if isinstance(error, Failure):
            self.send({"failed": error.kind, "message": str(error), "hint": error.hint})
            return
        traceback.print_exception(kind, error, trace, file=sys.stderr)
        text = f"{kind.__name__}: {error}" if str(error) else kind.__name__
        self.send({"failed": "raised", "message": f"{text[:_MESSAGE_CHARACTERS]}{_place(trace)}", "hint": ""})


def _place(trace: TracebackType | None) -> str:
    """Where it was raised: the innermost line that is neither ours nor of Python or an installed library."""
    frames = traceback.extract_tb(trace)
    own, python = os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.__file__)
    others = (own + os.sep, python + os.sep, "<")
    theirs = [f for f in frames if not f.filename.startswith(others) and "site-packages" not in f.filename]
    frame = theirs[-1] if theirs else None
    return f" ({frame.filename}, line {frame.lineno}, in {frame.name})" if frame else ""


def _limit(memory_limit: int) -> None:
    """Bound private memory: unlike the address space it does not count the libraries that torch maps."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_limit if hard == resource.RLIM_INFINITY else min(memory_limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _listen(fd: int, arriving: queue.Queue[dict[str, Any]], mark: str) -> None:
    """Hand requests on; when the node is gone, end this process and all that the plug-in started."""
    lines = LineReader(fd)
    with suppress(EOFError):
        while True:
            request = lines.read(_FOREVER)
            if request is not None:
                arriving.put(request)
    end_marked(mark)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
