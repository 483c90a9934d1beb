"""Package indexes on loopback, as the simple API of pip has them, that remember what was taken from which."""

from __future__ import annotations

import html
import threading
import zipfile
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.utils import canonicalize_name, parse_wheel_filename


class Indexes:
    """``folders``: name of an index, such as ``whl/cpu``, and the wheels in it. Serves until the block ends."""

    def __init__(self, folders: Mapping[str, Iterable[Path]]) -> None:
        self._files = {name: {path.name: path for path in paths} for name, paths in folders.items()}
        self.taken: set[tuple[str, str]] = set()
        """Index and project of every wheel that was downloaded."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Indexes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    def _answer(self, path: str) -> bytes | Path | None:
        """``/INDEX/PROJECT/`` lists files, ``/INDEX/PROJECT/FILE`` is one."""
        index, project, file = unquote(path).lstrip("/").rsplit("/", 2)
        files = self._files.get(index, {})
        if file:
            if file in files:
                self.taken.add((index, project))
            return files.get(file)
        names = [name for name in files if parse_wheel_filename(name)[0] == canonicalize_name(project)]
        return "".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>\n' for name in names).encode() or None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = answer(self.path) if self.path.count("/") > 2 else None
                if found is None:
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                content = found.read_bytes() if isinstance(found, Path) else found
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "application/zip" if isinstance(found, Path) else "text/html")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def write_wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    """A wheel with one empty module and these requirements."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    members = {
        f"{name}/__init__.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{member},,\n" for member in [*members, f"{about}/RECORD"])
    with zipfile.ZipFile(path, "w") as file:
        for member, text in {**members, f"{about}/RECORD": record}.items():
            file.writestr(member, text)
    return path
