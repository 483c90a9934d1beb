"""The page as a whole: what it says, that nothing breaks it, and that it reads no more as the history grows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.page.document import Wish, status_page
from mergenode.adapters.peers.membership.document import peers_document
from mergenode.adapters.store.sqlite_files import connect_read_only
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.adapters.store.sqlite_reader import SqliteReader
from mergenode.adapters.store.union_reader import UnionReader
from mergenode.ledger.records import Mixed
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Progress
from mergenode.types import Listing, Unsettled
from tests.support import facts
from tests.support.memory_ledger import MemoryLedger
from tests.support.observed import folded, group, published, rejected
from tests.support.page_story import StoryClock, lively, rounds, story
from tests.support.peer_snapshot import snapshot
from tests.support.status_node import Node

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;\x1b[2J\n\u202e\udcff"
ELEMENTS = """
    html head meta title style body header h1 h2 h3 nav main section footer p a b i span small code ul ol li dl div dt
    dd table caption thead tbody tr th td details summary progress figure figcaption svg g line text path circle time
"""
ATTRIBUTES = """
    lang charset name content class href id scope title data-label max value aria-label aria-hidden aria-current role
    tabindex viewbox x y x1 x2 y1 y2 cx cy r d datetime
"""


class Elements(HTMLParser):
    """Every element and attribute of a page, its text, and elements that were left open."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(reader: LedgerReader, **arguments: Any) -> str:
    live = LiveStatus(StoryClock(), ["team-inbox", "pushes"])
    lively(live)
    return status_page("merge-eu-1", reader, live.snapshot(), 900.0, **arguments)


@pytest.fixture(scope="module")
def told() -> MemoryLedger:
    ledger = MemoryLedger()
    ledger.append(*story(14, 7), *rounds(12))
    return ledger


def test_it_has_every_section_and_is_well_formed(told: MemoryLedger) -> None:
    page = page_of(told, peers=peers_document(snapshot()))
    elements = Elements(page)
    assert not elements.open and elements.tags <= {*ELEMENTS.split()} and elements.attributes <= {*ATTRIBUTES.split()}
    linked = set(re.findall(r'href="#(\w+)"', page))
    assert linked == {"now", "queue", "quarantine", "drift", "versions", "layers", "merge", "peers", "problems"}
    assert all(f'id="{name}"' in page for name in linked)
    text = " ".join(elements.words)
    for said in (
        "Working; 3 things to look at", "2 contributions are in quarantine", "summaries-9", "6.0 GiB of 14.0 GiB",
        "Distance from the base", "Task scores", "Consensus distance", "retracted: license of the data withdrawn",
        "model.layers.1", "the base has 32000x4096", "1 of 2 neighbours do not answer", "signature: forged",
        "mix dropped, it was worse", "mergenode quarantine release NAME", "As of 2026-11-30T09:12:00Z",
    ):  # fmt: skip
        assert said in text, said


def test_a_node_of_rounds_tells_its_rounds() -> None:
    ledger = MemoryLedger()
    ledger.append(facts.initialised(), *rounds(3), facts.published(1, generation=0, round=2))
    text = " ".join(Elements(page_of(ledger)).words)
    assert "Round 2" in text and "consensus distance 3.8" in text and "own" in text and "weight 0.250" in text


def test_a_new_node_has_a_page(ready: Node) -> None:
    ready.ledger.recorded.clear()
    elements = Elements(ready.request("/").text)
    text = " ".join(elements.words)
    assert not elements.open and "All is well" in text and "Nothing was folded yet." in text
    assert "the node has not read its base" in text


def test_what_others_wrote_stays_text_everywhere(ready: Node) -> None:
    findings = ({"gate": HOSTILE, "message": HOSTILE},)
    reports = (group("*"), group(HOSTILE))
    peer = {"node": HOSTILE, "weight": 0.5, "distance": 1.0}
    ready.ledger.recorded += [
        folded(1, name=HOSTILE, registry=HOSTILE, time=HOSTILE, groups=reports, warnings=(HOSTILE,), findings=findings,
               weighing={"tasks": {HOSTILE: {"after": 0.5}}}),
        rejected(HOSTILE, registry=HOSTILE, reason=HOSTILE, message=HOSTILE, hint=HOSTILE, time=HOSTILE),
        published(1, path=HOSTILE, time=HOSTILE),
        facts.retracted(1, name=HOSTILE, why=HOSTILE),
        facts.restated(2, 0, how=HOSTILE),
        facts.quarantined(3, name=HOSTILE, registry=HOSTILE, gate=HOSTILE, message=HOSTILE, hint=HOSTILE, time=HOSTILE),
        Mixed(time=HOSTILE, number=0, epoch=0, root="", content=facts.digest(1), own_weight=1.0, parents=(peer,),
              training_failed=HOSTILE, scores={"mixed": {HOSTILE: 0.5}}, spread=1.0),
        published(2, round=0, path=HOSTILE),
    ]  # fmt: skip
    ready.live.listed(HOSTILE, Listing(unsettled=(Unsettled(HOSTILE, HOSTILE, HOSTILE),)), 1)
    ready.live.listing_failed("bucket", HOSTILE)
    ready.live.progress(Progress(HOSTILE, HOSTILE, 0, 1, 0, 1, HOSTILE))
    document = peers_document(snapshot())
    for entry in document["peers"]:  # type: ignore[attr-defined]
        entry.update(address=HOSTILE, state=HOSTILE, banned={"reason": HOSTILE})
    document["calls"] = [{"address": HOSTILE, "error": HOSTILE}]
    ready.app = create_app(HOSTILE, ready.ledger, ready.metrics, ready.live, peers=lambda: document)
    answer = ready.request(f"/?heat={'%3Cscript%3E'}&refresh=%22onload")
    page = answer.content.decode("utf-8")
    elements = Elements(page)
    assert not elements.open and elements.tags <= {*ELEMENTS.split()} and elements.attributes <= {*ATTRIBUTES.split()}
    assert "".join(elements.words).count("<script>alert(1)</script>") > 20
    assert "\x1b" not in page and "\u202e" not in page and " style=" not in page


def test_it_reloads_itself_only_when_asked_to(ready: Node) -> None:
    assert '<meta http-equiv="refresh" content="30">' in ready.request("/?refresh=30").text
    for wrong in ("", "?refresh=", "?refresh=1", "?refresh=0;url=x", "?refresh=99999999999"):
        assert "http-equiv" not in ready.request(f"/{wrong}").text


def test_the_map_shows_what_was_asked_for(told: MemoryLedger) -> None:
    kept, norm = page_of(told), page_of(told, wish=Wish(heat="norm"))
    assert "Share kept by layer group" in kept and "Size over that of the base by layer group" in norm
    assert page_of(told, wish=Wish(heat="nothing")) == kept


def test_a_union_tells_of_which_nodes_its_versions_are_made() -> None:
    own, shown = MemoryLedger(), MemoryLedger()
    own.append(facts.initialised(), facts.folded(1))
    united = facts.united(1, 2, parts=({"node": "abcdef0123", "count": 1}, {"node": "fedcba9876", "count": 1}))
    shown.append(facts.initialised(), facts.admitted(1), facts.admitted(2), united, facts.published(1))
    text = " ".join(Elements(page_of(UnionReader(own, shown))).words)
    assert "v1" in text and "abcdef01" in text and "fedcba98" in text and "m2" in text


class CountingReader(SqliteReader):
    """Counts questions to the file, and what came back."""

    def __init__(self, path: Path) -> None:
        super().__init__(connect_read_only(path), path)
        self.queries = self.rows = self.bytes = self.steps = 0
        self._connection.set_progress_handler(self._tick, 100)

    def _tick(self) -> int:
        self.steps += 100
        return 0

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._count(super()._rows(query, *values))

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        row = super()._one(query, *values)
        self._count([] if row is None else [row])
        return row

    def _count(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        self.queries += 1
        self.rows += len(rows)
        self.bytes += sum(len(cell) for row in rows for cell in row if isinstance(cell, str))
        return list(rows)


def test_it_reads_the_same_of_a_long_history_as_of_a_short_one(tmp_path: Path) -> None:
    counted = []
    for contributions in (700, 1800):
        path = tmp_path / f"{contributions}.sqlite"
        with closing(SqliteLedger(path)) as ledger:
            ledger.append(*story(contributions, 4, kept_versions=contributions))
            ledger.append(facts.pruned(1), facts.pruned(2))
        with closing(CountingReader(path)) as reader:
            page_of(reader)
            counted.append(reader)
    short, long = counted
    assert (short.queries, short.rows) == (long.queries, long.rows)
    assert long.queries < 40 and long.rows < 1100
    assert long.bytes < 1.02 * short.bytes and long.steps < 1.05 * short.steps


def test_of_a_model_of_many_layers_fewer_contributions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(*story(60, 400))
    with closing(CountingReader(path)) as reader:
        page = page_of(reader)
    assert reader.bytes < 8 << 20 and len(page) < 400_000
    assert "The 40 of 400 layer groups that are warmest" in page
