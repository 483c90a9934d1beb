"""The status page: one plain HTML document, no script, every value escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from mergenode.adapters.http.activities import activities_section
from mergenode.adapters.http.live import Live
from mergenode.adapters.http.probes import liveness, readiness
from mergenode.adapters.http.quarantine import quarantined
from mergenode.adapters.http.status import newest_facts
from mergenode.adapters.observers.safe_text import redact, visible
from mergenode.ledger.records import Folded, Rejected
from mergenode.ports.ledger_store import LedgerReader

STYLESHEET = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
td { overflow-wrap: anywhere; }
@media (min-width: 48rem) { td { min-width: 5em; } td:last-child { min-width: 11em; } }
.bad { color: #c0392b; font-weight: 600; } .good { color: #1e8449; font-weight: 600; }
"""

SHOWN = 50
"""Rows per table; the rest is in the history document."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def status_page(node: str, reader: LedgerReader, live: Live, stalled_after_seconds: float) -> str:
    """The page as one string. Names and messages in it come from others: never taken as markup."""
    body = "".join(
        (
            f"<h1>mergenode {_text(node)}</h1>",
            _summary(reader, live, stalled_after_seconds),
            _work(live),
            _merge(reader),
            _queue(live),
            _versions(reader),
            _quarantine(reader),
            _rejections(reader),
            "<p><a href=\"/api/v1/status\">status</a> <a href=\"/api/v1/history\">history</a> "
            "<a href=\"/api/v1/versions\">versions</a> "
            "<a href=\"/api/v1/quarantine\">quarantine</a> <a href=\"/metrics\">metrics</a></p>",
        )
    )  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>mergenode {_text(node)}</title><style>{STYLESHEET}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def size(count: float) -> str:
    """Bytes for people.

    Example:
        >>> size(1536)
        '1.5 KiB'
    """
    step = 0
    while count >= 1024 and step < len(_UNITS) - 1:
        count, step = count / 1024, step + 1
    return f"{count:.0f} {_UNITS[step]}" if step == 0 else f"{count:.1f} {_UNITS[step]}"


def _summary(reader: LedgerReader, live: Live, stalled_after_seconds: float) -> str:
    head, initialised = reader.head(), reader.initialised()
    verdicts = (liveness(live, stalled_after_seconds), readiness(live))
    reasons = [check.detail for judged in verdicts for check in judged.checks if not check.ok]
    look, words = ("bad", "; ".join(reasons)) if reasons else ("good", "ready")
    state = f'<span class="{look}">{_text(words)}</span>'
    rows = [
        ("contributions in the merge", str(head.count)),
        ("version", str(head.version) if head.version else "none yet"),
        ("base", initialised.base if initialised else "not known yet"),
        ("method", initialised.method if initialised else "not known yet"),
    ]
    if live.disk is not None:
        used = f"statistics {size(live.disk.statistics_bytes)}, versions {size(live.disk.published_bytes)}"
        rows.append(("disk", f"{used}, free {size(live.disk.free_bytes)}"))
    return f"<p>{state}</p>" + _table((), rows)


def _work(live: Live) -> str:
    parts = []
    if live.activities:
        parts.append(activities_section(live.activities))
    if live.retry is not None:
        retry = live.retry
        text = f"{retry.subject} is tried again after {retry.delay_seconds:.0f} s: {retry.message}"
        text += f" - {retry.hint}" if retry.hint else ""
        parts.append(f'<p class="bad">{_text(text)}</p>')
    return "<h2>Now</h2>" + "".join(parts) if parts else ""


def _merge(reader: LedgerReader) -> str:
    facts = [fact for fact in newest_facts(reader, "folded", SHOWN) if isinstance(fact, Folded)]
    rows = [
        (str(fact.count), fact.name, fact.registry, f"{fact.weight:g}", f"{fact.relative_norm:.3g}",
         _share_kept(fact), fact.time)
        for fact in facts
    ]  # fmt: skip
    columns = ("number", "contribution", "registry", "weight", "norm / base", "kept", "folded")
    return "<h2>In the merge</h2>" + _table(columns, rows)


def _share_kept(fact: Folded) -> str:
    whole = next((group for group in fact.groups if group.get("group") == "*"), {})
    share = whole.get("share_kept")
    return "" if share is None else f"{float(share):.1%}"


def _queue(live: Live) -> str:
    rows = [(state.name, str(state.pending), str(state.unsettled_total), state.error) for state in live.registries]
    waiting = [(entry.name, entry.registry, entry.why) for state in live.registries for entry in state.unsettled][
        :SHOWN
    ]
    unsettled = _table(("not complete yet", "registry", "why"), waiting) if waiting else ""
    return "<h2>Queue</h2>" + _table(("registry", "pending", "unsettled", "error"), rows) + unsettled


def _versions(reader: LedgerReader) -> str:
    versions = list(reader.versions())[-SHOWN:]
    rows = [
        (str(version.version), str(version.generation), version.time, version.path) for version in reversed(versions)
    ]
    return "<h2>Versions</h2>" + _table(("version", "generation", "published", "path"), rows)


def _quarantine(reader: LedgerReader) -> str:
    rows = [
        (fact.name, fact.registry, fact.gate, fact.message, fact.hint, fact.time)
        for fact in quarantined(reader, SHOWN)
    ]  # fmt: skip
    columns = ("contribution", "registry", "gate", "message", "what to do", "since")
    return "<h2>In quarantine</h2>" + _table(columns, rows)


def _rejections(reader: LedgerReader) -> str:
    facts = [fact for fact in newest_facts(reader, "rejected", SHOWN) if isinstance(fact, Rejected)]
    rows = [(fact.name, fact.registry, fact.reason, fact.message, fact.hint, fact.time) for fact in facts]
    columns = ("contribution", "registry", "reason", "message", "what to do", "rejected")
    return "<h2>Last rejections</h2>" + _table(columns, rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return "<p>none</p>"
    head = "<tr>" + "".join(f"<th>{_text(column)}</th>" for column in columns) + "</tr>" if columns else ""
    return f"<table>{head}{''.join(lines)}</table>"


def _text(value: str) -> str:
    """The only way of a value into the page."""
    return escape(visible(redact(value)), quote=True)
