"""A whole setting: base, experts, every contestant in every order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.quality.contestants import Contestant
from benchmarks.quality.experts import Expert, Setting, experts_of
from benchmarks.quality.measuring import Bench, order_differences, run_job, score_base, score_expert
from benchmarks.quality.plan import GOALS, PARTS, REFINED, SIZES, Job, first_job, other_jobs, sweep_job
from benchmarks.quality.tasks import TASKS


def run_setting(
    bench: Bench,
    setting: Setting,
    rows: int | None,
    contestants: Sequence[Contestant],
    keep: Callable[[dict[str, Any]], None] = lambda found: None,
    *,
    parts: Sequence[str] = PARTS,
    sizes: Sequence[int] = (),
) -> dict[str, Any]:
    """Everything that the report says about one setting. What was measured before is not measured again.

    ``rows``: test rows per task, None for all. ``keep`` is given what was found so far, after each method. ``parts``:
    what is measured. ``sizes``: numbers of contributions whose other orders are, () for all.
    """
    contestants = [contestant for contestant in contestants if not contestant.refined or REFINED[setting.name]]
    tasks = TASKS[: max(SIZES[setting.name])]
    experts = experts_of(setting, tasks)
    found: dict[str, Any] = {
        "setting": setting.name,
        "recipe": {"rows": setting.recipe.rows, "epochs": setting.recipe.epochs, "shards": setting.shards},
        **_references(bench, experts, tasks, rows),
    }
    found |= {"first": [], "others": [], "sweeps": []}
    for contestant in contestants if "first" in parts else ():
        found["first"].append(run_job(bench, first_job(setting, contestant, rows)))
        keep(found)
    for contestant in contestants if "sweeps" in parts else ():
        job = sweep_job(setting, contestant, rows)
        found["sweeps"] += [run_job(bench, job)] if job else []
        keep(found)
    for contestant in contestants if "orders" in parts else ():
        found["others"] += _other_orders(bench, contestant, other_jobs(setting, contestant, rows, sizes))
        keep(found)
    return found


def _references(bench: Bench, experts: Sequence[Expert], tasks: Sequence[str], rows: int | None) -> dict[str, Any]:
    base = score_base(bench, tasks, rows)
    scored = [(expert, score_expert(bench, expert, rows)) for expert in experts]
    return {
        "base": {task: [score.correct, score.rows] for task, score in base.items()},
        "experts": [[expert.name, expert.task, score.correct, score.rows] for expert, score in scored],
    }


def _other_orders(bench: Bench, contestant: Contestant, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Results of the other orders. Of a method that does not care for the order, those at the sizes of the goals; where
    the largest merges are not among them, how far their weights differ."""
    if contestant.literal or not contestant.build().commutative:
        return [run_job(bench, job) for job in jobs]
    found = [run_job(bench, job) for job in jobs if set(job.sizes) & set(GOALS[job.setting.name])]
    if contestant.refined:  # a training enlarges the last digits of its merge: only its scores say something
        return found
    most = max(len(job.experts) for job in jobs)
    last = [job for job in jobs if len(job.experts) == most]
    if most in GOALS[last[0].setting.name]:
        return found
    return found + [
        {"label": contestant.label, "order": job.order, "relative": gap}
        for job, gap in zip(last, order_differences(bench, last), strict=True)
    ]
