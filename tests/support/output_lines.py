"""The output of a process, as lines."""

from __future__ import annotations

import threading
from typing import IO


class OutputLines:
    """Reads all the time, in a thread of its own, so that no process is held up by a full pipe while a test looks at
    another one. ``lines``: everything so far."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None, "the process was started with a pipe"
        self.lines: list[str] = []
        self._stream = stream
        self._seen = 0
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def until(self, text: str, patience: float = 240.0) -> str:
        """Go on to the next line that holds ``text``; waits for it, at most until the output ends."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._found(text) or self._ended, patience), self._told(text)
            if not self._found(text):
                raise AssertionError(self._told(text))
            self._seen += 1
            return self.lines[self._seen - 1]

    def join(self) -> None:
        """After the process ended: everything was read."""
        self._reader.join(60)

    def close(self) -> None:
        """After the process ended: read the rest, and close the pipe."""
        self.join()
        self._stream.close()

    def _read(self) -> None:
        for line in self._stream:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _found(self, text: str) -> bool:
        while self._seen < len(self.lines) and text not in self.lines[self._seen]:
            self._seen += 1
        return self._seen < len(self.lines)

    def _told(self, text: str) -> str:
        return f"no {text!r} in:\n{self.text}"
