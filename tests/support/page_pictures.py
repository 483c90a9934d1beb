"""The pictures of docs/page.md: ``python -m tests.support.page_pictures docs``. Needs Chromium and Pillow."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from prometheus_client import CollectorRegistry

from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from tests.support.chromium import Browser, browser, chromium
from tests.support.page_story import StoryClock, lively, story

COLOURS = 224
"""Few are enough for a page of text and flat colours, and keep a picture small."""
PICTURES = (
    ("page-light", 1180, False, "/", "glance", 980),
    ("page-dark", 1180, True, "/", "drift", 1010),
    ("page-layers", 1180, False, "/", "layers", 790),
    ("page-phone", 360, False, "/", "glance", 1000),
    ("page-phone-dark", 360, True, "/?heat=norm", "layers", 1000),
)
"""Name, width of the window, dark, path, section at the top, height."""


def take(window: Browser, address: str, folder: Path) -> None:
    for name, width, dark, path, section, height in PICTURES:
        window.show(address + path, width=width, dark=dark)
        place = f"document.getElementById('{section}').getBoundingClientRect().top + scrollY"
        top = 0 if section == "glance" else int(window.value(place)) - 12
        window.picture(folder / f"{name}.png", top=top, height=height)
        with Image.open(folder / f"{name}.png") as picture:
            picture.convert("RGB").quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE).save(
                folder / f"{name}.png", optimize=True
            )


def main(folder: Path) -> None:
    binary = chromium()
    assert binary is not None, "needs Chromium"
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "ledger.sqlite"
        with closing(SqliteLedger(path)) as ledger:
            ledger.append(*story(62, 27))
        live = LiveStatus(StoryClock(), ["team-inbox", "pushes"])
        lively(live)
        with closing(open_reader(path)) as reader, browser(binary, Path(scratch) / "profile") as window:
            server = HttpServer(create_app("merge-eu-1", reader, CollectorRegistry(), live), "127.0.0.1", 0)
            host, port = server.start()
            take(window, f"http://{host}:{port}", folder)
            server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
