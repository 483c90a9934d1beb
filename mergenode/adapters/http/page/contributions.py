"""Contributions by what became of them: in the merge, in quarantine, rejected; each with what to do next."""

from __future__ import annotations

from mergenode.adapters.http.page.markup import EMPTY, Cells, Markup, joined, long_table, section, tag
from mergenode.adapters.http.page.recent import SHOWN, Recent, figure, whole
from mergenode.adapters.http.page.wording import UNKNOWN, moment, number, percent
from mergenode.ledger.records import Folded, Member


def merge_section(recent: Recent) -> Markup:
    """What is in the merge, newest first."""
    rows = [_member(fact) for fact in reversed(recent.members)]
    columns = ("contribution", "registry", "weight", "norm / base", "kept", "cosine", "took", "since")
    count, shown = recent.head.count, len(rows)
    beyond = f"The newest {shown} of {count}. " if count > shown else ""
    note = joined([beyond, "Everything about one: ", tag("code", "mergenode show NAME"), ". Out again: ",
                   tag("code", "mergenode retract NAME"), "."])  # fmt: skip
    listed = long_table(columns, rows, caption="Contributions in the merge", numbers=columns[2:7])
    return section("merge", "In the merge", listed, note=note)


def quarantine_section(recent: Recent) -> Markup:
    rows: list[Cells] = [
        (fact.name, fact.registry, fact.gate, _said(fact.message, fact.hint), moment(fact.time))
        for fact in reversed(recent.quarantined)
    ]
    listed = long_table(("contribution", "registry", "gate", "what it found", "since"), rows, caption="In quarantine")
    if not rows:
        return section("quarantine", "In quarantine", listed)
    note = joined(["They wait for you. All that gates found: ", tag("code", "mergenode quarantine show NAME"),
                   ". Then ", tag("code", "mergenode quarantine release NAME"), " or ",
                   tag("code", "mergenode quarantine drop NAME"), ", with ", tag("code", "--why"), "."])  # fmt: skip
    beyond = recent.in_quarantine - len(rows)
    rest = tag("p", f"and {beyond} more", class_="note") if beyond > 0 else EMPTY
    return section("quarantine", "In quarantine", listed, rest, note=note)


def problems_section(recent: Recent) -> Markup:
    """What was rejected and what was folded with a warning."""
    rows: list[Cells] = [
        (fact.name, fact.registry, fact.reason,
         _said(fact.message, fact.hint or f"docs/outcomes.md says what {fact.reason} means and how to mend it."),
         moment(fact.time))
        for fact in reversed(recent.rejected)
    ]  # fmt: skip
    columns = ("contribution", "registry", "reason", "message and what to do", "when")
    listed = long_table(columns, rows, caption="Rejected contributions")
    told = [(fold, words) for fold in reversed(recent.folds) if (words := _warnings(fold))]
    warned: list[Cells] = [(fold.name, words, moment(fold.time)) for fold, words in told[:SHOWN]]
    heading = "Folded with a warning"
    listing = long_table(("contribution", "warning", "when"), warned, caption=heading)
    warnings = joined([tag("h3", heading), listing])
    note = joined(["A rejected entry is looked at again when its files change, or by ",
                   tag("code", "mergenode ingest"), "."])  # fmt: skip
    return section("problems", "Last rejections", listed, warnings if warned else EMPTY, note=note if rows else "")


def _member(fact: Member) -> Cells:
    if isinstance(fact, Folded):
        report = whole(fact)
        told = percent(figure(report, "share_kept")), number(figure(report, "cosine"), 2), f"{fact.seconds:.1f} s"
    else:
        told = UNKNOWN, UNKNOWN, UNKNOWN
    return (fact.name, fact.registry, f"{fact.weight:g}", percent(fact.relative_norm), *told, moment(fact.time))


def _said(message: str, hint: str) -> Markup:
    return joined([message, tag("span", hint, class_="next") if hint else EMPTY])


def _warnings(fold: Folded) -> str:
    found = [f"{finding.get('gate', '')}: {finding.get('message', '')}" for finding in fold.findings]
    return "; ".join([*fold.warnings, *found])
