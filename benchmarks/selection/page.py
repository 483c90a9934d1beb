"""The page of the report in Markdown. Pure: figures in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]
SCREENS = {"none": "as they are", "clip": "cut to 2 x median", "gate": "norm gate first"}


def page(figures: Figures) -> str:
    """The whole page; sections whose figures are missing are left out."""
    parts = ["# Selection and gates on the text suite\n"]
    if "pools" in figures:
        parts += _pools(figures["pools"], figures["differences"])
    if "gates" in figures:
        parts += _gates(figures["gates"])
    if "agreement" in figures:
        parts += _agreement(figures["agreement"])
    environment = ", ".join(f"{name} {value}" for name, value in figures["environment"].items())
    return "\n".join([*parts, f"Measured with {environment}; one thread.\n"])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells as they are."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _pools(rows: Sequence[Figures], changes: Sequence[Figures]) -> list[str]:
    return [
        "## Pools\n",
        "Mean accuracy on the four targets, ± standard error over seeds; in brackets their number where it is not 3.\n",
        _grid(rows, "irrelevant", "4 relevant and so many irrelevant or harmful ones"),
        _grid(rows, "other tasks", "4 relevant and so many experts of other tasks"),
        _relevant(rows),
        _references(rows),
        "![accuracy over the pool](pools.png)\n",
        "### None against 32 irrelevant ones\n",
        markdown(
            ("row", "long vectors", "with none", "with 32", "change", "within one standard error"),
            (
                (
                    change["label"], SCREENS[change["screen"]], _with_error(change["none"], change["error"]),
                    f"{change['irrelevant_32']:.3f}", f"{change['change']:+.4f}",
                    {True: "yes", False: "**no**", None: "one seed"}[change["within_one_standard_error"]],
                )
                for change in changes
            ),
        ),
        "### Where the weight lies with 32 irrelevant ones\n",
        markdown(
            ("row", "long vectors", "rounds", "gap at the last", "weight"),
            (
                (
                    row["label"], SCREENS[row["screen"]], f"{row['rounds']:.1f}", f"{row['last_gap']:.3f}",
                    ", ".join(f"{kind} {share:.3f}" for kind, share in row["weight_on"].items() if share >= 5e-4),
                )
                for row in rows
                if row.get("weight_on") and row["others"] == 32
            ),
        ),
    ]  # fmt: skip


def _with_error(value: float, error: float | None, seeds: int = 3) -> str:
    told = f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"
    return told if seeds == 3 else f"{told} [{seeds}]"


def _grid(rows: Sequence[Figures], kind: str, title: str) -> str:
    ours = [row for row in rows if row["relevant"] == 4 and row["kind"] in ("", kind) and _compared(row)]
    return _by_size(ours, "others", f"{title}: row")


def _relevant(rows: Sequence[Figures]) -> str:
    ours = [row for row in rows if not row["others"] and _compared(row)]
    return _by_size(ours, "relevant", "so many relevant ones: row")


def _compared(row: Figures) -> bool:
    return "accuracy" in row and row["label"] != "base" and not row["label"].startswith("expert ")


def _by_size(rows: Sequence[Figures], size: str, title: str) -> str:
    sizes = sorted({row[size] for row in rows})
    names = sorted({(row["label"], row["screen"]) for row in rows})
    found = {(row["label"], row["screen"], row[size]): row for row in rows}
    lines = []
    for label, screen in names:
        cells = [found.get((label, screen, number)) for number in sizes]
        if sum(cell is not None for cell in cells) > 1:
            told = [_with_error(cell["accuracy"], cell["error"], len(cell["seeds"])) if cell else "" for cell in cells]
            lines.append((label, SCREENS[screen] if label.startswith("FW") else "", *told))
    return markdown((title, "long vectors", *map(str, sizes)), lines)


def _references(rows: Sequence[Figures]) -> str:
    ours = [row for row in rows if "accuracy" in row and (row["label"] == "base" or row["label"].startswith("expert "))]
    tasks = list(ours[0]["tasks"]) if ours else []
    return markdown(
        ("alone", "mean", *tasks),
        (
            (row["label"], _with_error(row["accuracy"], row["error"]), *(f"{row['tasks'][task]:.3f}" for task in tasks))
            for row in ours
        ),
    )


def _gates(found: Figures) -> list[str]:
    test, tuning = found["splits"]["test"], found["splits"]["tuning"]
    parts = ["## Gates\n", "![gates against kinds](gates.png)\n"]
    for name, title in (("defaults", "default thresholds"), ("tuned", "thresholds of the tuning split")):
        parts += [f"### Test split, {title}\n", _kinds(test[name], tuning[name]), _positives(name, test, tuning)]
    parts += ["Thresholds that the tuning split gives:\n", _thresholds(found["options"])]
    signed = [(kind, evidence["status"], evidence["detail"]) for kind, evidence in test["signatures"].items()]
    parts += ["### Signatures\n", markdown(("checkpoint", "signature", "detail"), signed)]
    parts += ["### Backdoor: share of triggered test texts that go to the attacker's class\n"]
    names = list(test["backdoor"])
    lines = [(split, *(f"{part['backdoor'][name]:.3f}" for name in names)) for split, part in found["splits"].items()]
    return [*parts, markdown(("split", *names), lines)]


def _kinds(part: Figures, tuning: Figures) -> str:
    there = {row["kind"]: row for row in tuning["rows"]}
    lines = []
    for row in part["rows"]:
        if row["kind"] != "honest":
            caught = [f"{gate} (`{row['said'][gate]}`)" for gate in row["messages"]]
            also = there[row["kind"]]["messages"] if row["kind"] in there else ()
            lines.append((row["kind"], ", ".join(caught) or "**none**", ", ".join(also) or "**none**"))
    return markdown(("kind", "caught by", "on the tuning split by"), lines)


def _positives(name: str, test: Figures, tuning: Figures) -> str:
    lines: list[tuple[str, ...]] = []
    for gate, spoken in test[name]["false_positives"].items():
        there = tuning[name]["false_positives"][gate]
        told = [f"{len(part['names'])} of {part['judged']}" for part in (spoken, there)]
        lines.append((gate, told[0], ", ".join(spoken["names"]), told[1]))
    return markdown(("gate", "honest ones it speaks against", "which", "on the tuning split"), lines)


def _thresholds(options: Figures) -> str:
    lines = []
    for gate, chosen in options["tuned"].items():
        defaults = options["defaults"][gate]
        numbers = {key: value for key, value in chosen.items() if isinstance(value, float) and key not in defaults}
        lines += [(gate, key, f"{value:.3f}") for key, value in numbers.items()]
    return markdown(("gate", "option", "tuned"), lines)


def _agreement(found: Figures) -> list[str]:
    streamed = found["streamed"]
    return [
        "## Agreement\n",
        markdown(
            ("selection", "rounds with the same choice", "largest difference of a weight", "of the merged vector"),
            (
                (
                    step["row"], f"{sum(step['same_choice'])} of {len(step['same_choice'])}",
                    f"{step['largest_weight_difference']:.1e}", f"{step['relative_difference']:.1e}",
                )
                for step in found["steps"]
            ),
        ),
        f"Scores streamed from {streamed['candidates']} files against vectors in memory: they differ by at most "
        f"{streamed['largest_difference']:.1e} of ||g|| ||tau||; {streamed['sketch_errors_beyond_3']} sketch estimates "
        f"are off by more than three of their standard errors. CPU: {streamed['cpu_index']:.1f} s to index, "
        f"{streamed['cpu_scores']:.1f} s for one round.\n",
    ]  # fmt: skip
