"""The page in a real browser: its policy lets it look as it should, and it fits on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.peers.membership.document import peers_document
from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from tests.support import facts
from tests.support.chromium import Browser, browser, chromium
from tests.support.page_story import StoryClock, lively, rounds, story
from tests.support.peer_snapshot import snapshot

BINARY = chromium()
pytestmark = pytest.mark.skipif(BINARY is None, reason="needs a Chromium (Debian: apt-get install chromium)")
LONG = "a-name-without-any-place-to-break-it-" * 8 + "x" * 300
SECTIONS = ["glance", "now", "queue", "quarantine", "drift", "versions", "layers", "merge", "peers", "problems"]
WIDE = """
[...document.querySelectorAll('body *')].filter(e => !e.closest('.wide') && e.getBoundingClientRect().right > innerWidth
  && getComputedStyle(e).position !== 'absolute').map(e => e.tagName + ' ' + e.textContent.slice(0, 40))
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("page") / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(*story(45, 27), *rounds(12))
        ledger.append(facts.rejected(900, name=LONG, message=LONG, hint=LONG), facts.quarantined(901, name=LONG))
    live = LiveStatus(StoryClock(), ["team-inbox", "pushes"])
    lively(live)
    with closing(open_reader(path)) as reader:
        app = create_app(
            "merge-eu-1", reader, CollectorRegistry(), live, peers=lambda: peers_document(snapshot())
        )  # fmt: skip
        server = HttpServer(app, "127.0.0.1", 0)
        host, port = server.start()
        yield f"http://{host}:{port}/"
        assert server.stop()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert BINARY is not None
    with browser(BINARY, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", [360, 800, 970, 1280])
def test_nothing_makes_the_page_scroll_sideways(window: Browser, address: str, width: int) -> None:
    window.show(address, width=width)
    assert window.value("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    assert window.value(WIDE) == []
    assert window.value("[...document.querySelectorAll('main > section')].map(e => e.id)") == SECTIONS
    hidden = (
        "[...document.querySelectorAll('main > section')].filter(e => e.getBoundingClientRect().height < 40).length"
    )
    assert window.value(hidden) == 0


def test_its_policy_refuses_nothing_of_it_and_no_script_runs(window: Browser, address: str) -> None:
    window.complaints.clear()
    window.show(address, width=1280)
    assert window.complaints == []
    assert window.value("document.scripts.length + document.querySelectorAll('[style], iframe, img, form').length") == 0
    # What a script of somebody else would do is refused: the policy is there and it works.
    window.value("document.body.insertAdjacentHTML('beforeend', '<p id=probe style=\"width: 7px\">x</p>')")
    assert window.value("getComputedStyle(document.getElementById('probe')).width") != "7px"
    assert any("Content Security Policy" in each for each in window.complaints)


def test_it_follows_the_colours_of_the_reader(window: Browser, address: str) -> None:
    grounds = []
    for dark in (False, True):
        window.show(address, width=1280, dark=dark)
        grounds.append(window.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(246, 247, 249)", "rgb(16, 20, 26)"]


def test_curves_are_drawn_and_cells_are_coloured(window: Browser, address: str) -> None:
    window.show(address, width=1280)
    drawn = window.value("[...document.querySelectorAll('svg path')].map(e => e.getBBox().width)")
    assert len(drawn) >= 7 and min(drawn) > 50
    colours = window.value("[...new Set([...document.querySelectorAll('.heat td')].map("
                           "e => getComputedStyle(e).backgroundColor))].length")  # fmt: skip
    assert colours >= 5


def test_links_of_the_top_lead_to_the_sections_and_details_open(window: Browser, address: str) -> None:
    window.show(address, width=360)
    window.value("document.querySelector('nav a[href=\"#layers\"]').click()")
    assert window.value("location.hash") == "#layers"
    closed = window.value("document.querySelector('#versions details table, #versions details ol').checkVisibility()")
    window.value("document.querySelector('#versions details summary').click()")
    opened = window.value("document.querySelector('#versions details ol').checkVisibility()")
    assert (closed, opened) == (False, True)


def test_a_picture_is_a_picture(window: Browser, address: str, tmp_path: Path) -> None:
    window.show(address, width=360)
    window.picture(tmp_path / "page.png", height=900)
    assert (tmp_path / "page.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
