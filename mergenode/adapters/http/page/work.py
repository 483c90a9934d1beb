"""What happens now and what waits: running work, the registries, what is not complete yet."""

from __future__ import annotations

from mergenode.adapters.http.live import Live, Running
from mergenode.adapters.http.page.markup import EMPTY, Cells, Markup, more, section, size, table, tag
from mergenode.adapters.http.page.recent import SHOWN
from mergenode.adapters.http.page.wording import duration


def now_section(live: Live) -> Markup:
    """The work under way; empty when the node waits."""
    return EMPTY if live.running is None else section("now", "Now", _running(live.running, live.now))


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


def _running(running: Running, now: float) -> Markup:
    progress = running.progress
    rate, remaining = running.bytes_per_second(now), running.seconds_remaining(now)
    told = [
        f"{progress.tensors_done} of {progress.tensors_total} tensors",
        f"{size(progress.bytes_done)} of {size(progress.bytes_total)}",
    ]
    if rate is not None and remaining is not None:
        told += [f"{size(rate)}/s", f"{duration(remaining)} left"]
    if progress.waits_for:
        told.append(f"waits for {progress.waits_for}")
    bar = tag("progress", max=max(1, progress.bytes_total), value=min(progress.bytes_done, progress.bytes_total),
              aria_label=f"{progress.activity} of {progress.subject}")  # fmt: skip
    words = tag("b", progress.activity), " of ", tag("b", progress.subject), tag("small", ", ".join(told))
    return tag("div", tag("p", *words), bar, class_="running")


def _answered(answered: float | None, now: float) -> str:
    return "never" if answered is None else f"{duration(now - answered)} ago"
