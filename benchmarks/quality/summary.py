"""From the raw counts of one setting to the figures of its table. Pure: dictionaries in, dictionaries out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.quality.figures import Scores, backward_transfer, mean_accuracy, share_kept, standard_error
from benchmarks.quality.scoring import Score

Found = Mapping[str, Any]
Row = dict[str, Any]


def scores_of(counts: Mapping[str, Sequence[int]]) -> dict[str, Score]:
    """Scores from ``{task: [correct, rows]}``."""
    return {task: Score(*pair) for task, pair in counts.items()}


def ceiling(experts: Sequence[Sequence[Any]], tasks: Sequence[str]) -> dict[str, float]:
    """Mean accuracy of each task's own experts; ``experts``: rows of name, task, correct, rows."""
    return {task: fmean(correct / rows for _, its_task, correct, rows in experts if its_task == task) for task in tasks}


def kept_of(scores: Scores, base: Scores, experts: Sequence[Sequence[Any]]) -> float:
    """Share of the experts' gain that a model keeps on the tasks it was scored on."""
    top = fmean(ceiling(experts, list(scores)).values())
    return share_kept(mean_accuracy(scores), mean_accuracy({task: base[task] for task in scores}), top)


def summarise(found: Found) -> dict[str, Any]:
    """The figures of one setting; ``found`` is what ``campaign.run_setting`` returns, complete or not."""
    base, experts = scores_of(found["base"]), found["experts"]
    top = ceiling(experts, list(base))
    orders = orders_of(found)
    rows = [with_orders(_row(result, found, base, experts), orders) for result in found["first"]]
    return {
        "setting": found["setting"],
        "recipe": found["recipe"],
        "experts": len(experts),
        "test_rows": sum(score.rows for score in base.values()),
        "base": {"mean": mean_accuracy(base), "error": standard_error(base), "tasks": _accuracies(base)},
        "ceiling": {"mean": fmean(top.values()), "tasks": top},
        "sizes": {str(size): _reference(size, base, experts) for size in _sizes(found)},
        "rows": rows,
        "sweeps": {result["label"]: _sweep(result, found) for result in found.get("sweeps", ())},
    }


def orders_of(found: Found) -> dict[str, Row]:
    """What the other orders of each method gave: shares kept by size, and relative differences of the weights."""
    base, experts = scores_of(found["base"]), found["experts"]
    told: dict[str, Row] = {}
    for other in found.get("others", ()):
        row = told.setdefault(other["label"], {"kept": {}, "differences": []})
        row["differences"] += [other["relative"]] if "relative" in other else []
        for snapshot in other.get("snapshots", ()):
            count = snapshot["count"]
            kept = kept_of(scores_of(snapshot["own"]), base, experts[:count])
            row["kept"].setdefault(str(count), []).append(kept)
    return told


def with_orders(row: Row, orders: Mapping[str, Row]) -> Row:
    """``row`` with the other orders of its method beside the listed one, in place of those that it had.

    ``kept`` becomes the mean over the orders; accuracies and costs stay those of the listed one.
    """
    told = orders.get(row["label"])
    if told is None:
        return row
    sizes = {}
    for size, found in row["sizes"].items():
        kept = [found["kept_by_order"][0], *told["kept"].get(size, found["kept_by_order"][1:])]
        sizes[size] = {**found, "kept": fmean(kept), "kept_by_order": kept}
    return {**row, "sizes": sizes, "order_difference": max(told["differences"], default=row["order_difference"])}


def _sizes(found: Found) -> list[int]:
    if not found["first"]:
        return []
    return [snapshot["count"] for snapshot in found["first"][0]["snapshots"] if _complete(snapshot, found)]


def _complete(snapshot: Found, found: Found) -> bool:
    """Whether a snapshot was scored on every task that its contributions come from."""
    folded = {task for _, task, _, _ in found["experts"][: snapshot["count"]]}
    return snapshot["count"] > 1 and set(snapshot.get("own", ())) >= folded


def _reference(size: int, base: Scores, experts: Sequence[Sequence[Any]]) -> Row:
    tasks = list(dict.fromkeys(task for _, task, _, _ in experts[:size]))
    return {
        "base": fmean(base[task].accuracy for task in tasks),
        "experts": fmean(ceiling(experts[:size], tasks).values()),
    }


def _row(result: Found, found: Found, base: Scores, experts: Sequence[Sequence[Any]]) -> Row:
    snapshots = result["snapshots"]
    row: Row = {"label": result["label"], "method": result["method"], "options": result["options"], "sizes": {}}
    for snapshot in snapshots:
        if _complete(snapshot, found):
            row["sizes"][str(snapshot["count"])] = _at_size(snapshot, base, experts)
    last = snapshots[-1]
    row |= {name: last[name] for name in ("state_bytes", "fold_cpu", "export_cpu") if name in last}
    row["order_difference"] = None
    row["backward_transfer"] = _transfer(snapshots, result["experts"], experts)
    return row


def _at_size(snapshot: Found, base: Scores, experts: Sequence[Sequence[Any]]) -> Row:
    count = snapshot["count"]
    scores, its_experts = scores_of(snapshot["own"]), experts[:count]
    kept = kept_of(scores, base, its_experts)
    gain = fmean(ceiling(its_experts, list(scores)).values()) - mean_accuracy({task: base[task] for task in scores})
    row = {
        "accuracy": mean_accuracy(scores),
        "error": standard_error(scores),
        "tasks": _accuracies(scores),
        "kept": kept,
        "kept_by_order": [kept],
        "kept_error": standard_error(scores) / gain,
    }
    if "norm" in snapshot:
        row["kept_by_norm_rule"] = kept_of(scores_of(snapshot["norm"]), base, its_experts)
    if "merged_norm" in snapshot:
        row |= {"merged_norm": snapshot["merged_norm"], "mean_norm": snapshot["mean_norm"]}
    return row


def _transfer(snapshots: Sequence[Found], arrived: Sequence[str], experts: Sequence[Sequence[Any]]) -> float | None:
    """Backward transfer of the listed order; None where not every fold was scored."""
    task_of = {name: task for name, task, _, _ in experts}
    scored = {snapshot["count"]: scores_of(snapshot.get("own", {})) for snapshot in snapshots}
    tasks = [task_of[name] for name in arrived]
    if any(task not in scored.get(count, {}) for count, task in enumerate(tasks, start=1)) or len(tasks) < 2:
        return None
    after_own = [scored[count][task].accuracy for count, task in enumerate(tasks, start=1)]
    return backward_transfer(after_own, [scored[len(tasks)][task].accuracy for task in tasks])


def _sweep(result: Found, found: Found) -> dict[str, dict[str, Any]]:
    """Share kept by scale at every swept count, the best scale, and what the norm rule amounts to."""
    base = scores_of(found["base"])
    swept: dict[str, dict[str, Any]] = {}
    for snapshot in result["snapshots"]:
        its_experts = found["experts"][: snapshot["count"]]
        kept = {name: kept_of(scores_of(counts), base, its_experts) for name, counts in snapshot["sweep"].items()}
        fixed = {name: value for name, value in kept.items() if name != "norm"}
        swept[str(snapshot["count"])] = {
            "kept": kept,
            "best": max(fixed, key=lambda name: fixed[name]),
            "norm_factor": snapshot["norm_factor"],
        }
    return swept


def _accuracies(scores: Scores) -> dict[str, float]:
    return {task: score.accuracy for task, score in scores.items()}
