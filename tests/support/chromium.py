"""A real browser without a window, driven over a pipe by the DevTools protocol. No package is needed for that."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds until a browser that says nothing is given up; nothing is measured against it."""
_START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""The browser reads commands from descriptor 3 and answers on 4."""
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


def chromium() -> str | None:
    """Where a Chromium is, None where there is none."""
    return next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )


@dataclass
class Browser:
    """One page of a running browser. ``complaints``: what stands in its console, refusals by a policy included."""

    _send: int
    _receive: int
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    _loads: int = 0
    _number: int = 0
    _buffer: bytes = b""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result. RuntimeError when the browser refuses it or ends."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def show(self, url: str, *, width: int, dark: bool = False) -> None:
        """Load ``url`` in a window of this width and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        before = self._loads
        self.call("Page.navigate", url=url)
        while self._loads == before:
            self._note(self._next())

    def value(self, expression: str) -> Any:
        """What an expression of the page's language gives, as JSON."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, path: Path, *, top: int = 0, height: int | None = None, left: int = 0) -> None:
        """The page as a PNG file, as wide as its window, from ``top`` on; all of it without ``height``."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        window = self.value("innerWidth")
        clip = {"x": left, "y": top, "width": window, "height": height or size["height"] - top, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._receive, 1 << 20)
            if not part:
                raise RuntimeError("the browser ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Page.loadEventFired":
                self._loads += 1
            case "Log.entryAdded":
                self.complaints.append(event["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["params"]["exceptionDetails"].get("text")))


@contextmanager
def browser(binary: str, profile: Path) -> Iterator[Browser]:
    """A browser with one empty page, ended on leaving. ``profile``: an empty directory of its own."""
    to_read, send = os.pipe()
    receive, to_write = os.pipe()
    command = [
        sys.executable, "-c", _START, str(to_read), str(to_write), "timeout", str(int(PATIENCE)), binary,
        f"--user-data-dir={profile}", *_OPTIONS,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(profile)},
    )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    try:
        page = Browser(send, receive)
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            page.call(f"{domain}.enable")
        yield page
        page.session = ""
        with suppress(OSError, RuntimeError):
            page.call("Browser.close")
    finally:
        os.close(send)
        os.close(receive)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
