"""What happens now and what waits: running work, the registries, what is not complete yet."""

from __future__ import annotations

from mergenode.adapters.http.live import Live
from mergenode.adapters.http.page.markup import EMPTY, Cells, Markup, more, section, table, tag
from mergenode.adapters.http.page.recent import SHOWN
from mergenode.adapters.http.page.wording import duration
from mergenode.ports.activity import Activity
from mergenode.ports.activity_text import measures, title


def now_section(live: Live) -> Markup:
    """All long work under way; empty when the node waits."""
    return section("now", "Now", *map(_activity, live.activities)) if live.activities else EMPTY


def queue_section(live: Live) -> Markup:
    rows: list[Cells] = [
        (state.name, str(state.pending), str(state.unsettled_total), _answered(state.answered, live.now), state.error)
        for state in live.registries
    ]
    columns: tuple[str, ...] = ("registry", "waiting", "not complete", "last answer", "error")
    if not any(state.error for state in live.registries):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    registries = table(columns, rows, caption="Registries", numbers=("waiting", "not complete"))
    unsettled = [
        (entry.name, entry.registry, entry.why, "" if entry.seconds_left is None else duration(entry.seconds_left))
        for state in live.registries
        for entry in state.unsettled
    ]
    if not unsettled:
        return section("queue", "Queue", registries)
    listed = table(("entry", "registry", "why it waits", "at least"), unsettled[:SHOWN], caption="Not complete yet")
    total = sum(state.unsettled_total for state in live.registries)
    heading = "1 entry is not complete yet" if total == 1 else f"{total} entries are not complete yet"
    hint = "Folded when complete. One that stays for hours: its upload died; push it again or remove it."
    return section("queue", "Queue", registries, more(heading, tag("p", hint, class_="note"), listed))


def _activity(activity: Activity) -> Markup:
    document, share = activity.document(), activity.share
    value = None if share is None else f"{share:.4f}"
    bar = tag("progress", max=1, value=value, aria_label=title(document))
    source = f" (from {activity.peer})" if activity.peer and activity.peer not in activity.subject else ""
    words = tag("b", activity.kind), " of ", tag("b", activity.subject), source
    return tag("div", tag("p", *words, tag("small", ", ".join(measures(document)))), bar, class_="running")


def _answered(answered: float | None, now: float) -> str:
    return "never" if answered is None else f"{duration(now - answered)} ago"
