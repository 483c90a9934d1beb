"""A whole setting: base, experts, every contestant in every order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.quality.contestants import Contestant
from benchmarks.quality.experts import Setting, experts_of
from benchmarks.quality.measuring import Bench, order_difference, run_job, score_base, score_expert
from benchmarks.quality.plan import SIZES, SWEEP_ROWS, first_job, other_jobs, sweep_job
from benchmarks.quality.tasks import TASKS

CLOSE = 1e-5
"""Merges whose relative difference is below this count as the same model."""


def run_setting(bench: Bench, setting: Setting, rows: int | None, contestants: Sequence[Contestant]) -> dict[str, Any]:
    """Everything that the report says about one setting. What was measured before is not measured again."""
    tasks = TASKS[: max(SIZES[setting.name])]
    experts = experts_of(setting, tasks)
    swept: dict[str, Any] = {}
    if setting.name != "small":
        swept = {
            "base": _plain(score_base(bench, tasks, SWEEP_ROWS)),
            "experts": [
                [expert.name, expert.task, *_pair(score_expert(bench, expert, SWEEP_ROWS))] for expert in experts
            ],
        }
    return {
        "setting": setting.name,
        "recipe": {"rows": setting.recipe.rows, "epochs": setting.recipe.epochs, "shards": setting.shards},
        "base": _plain(score_base(bench, tasks, rows)),
        "experts": [[expert.name, expert.task, *_pair(score_expert(bench, expert, rows))] for expert in experts],
        "swept": swept,
        "first": [run_job(bench, first_job(setting, contestant, rows)) for contestant in contestants],
        "others": [result for contestant in contestants for result in _other_orders(bench, setting, contestant, rows)],
        "sweeps": [run_job(bench, job) for contestant in contestants if (job := sweep_job(setting, contestant))],
    }


def _other_orders(bench: Bench, setting: Setting, contestant: Contestant, rows: int | None) -> list[dict[str, Any]]:
    """Results of the other orders; of a method that does not care for the order, only how far its merges differ."""
    jobs = other_jobs(setting, contestant, rows)
    if contestant.literal or not contestant.build().commutative:
        return [run_job(bench, job) for job in jobs]
    last = [job for job in jobs if job.sizes == (max(SIZES[setting.name]),)]
    differences = [order_difference(bench, job)["relative"] for job in last]
    if max(differences) > CLOSE:
        return [run_job(bench, job) for job in jobs]
    return [
        {"label": contestant.label, "order": job.order, "relative": gap}
        for job, gap in zip(last, differences, strict=True)
    ]


def _pair(score: Any) -> tuple[int, int]:
    return score.correct, score.rows


def _plain(scores: Any) -> dict[str, list[int]]:
    return {task: [score.correct, score.rows] for task, score in scores.items()}
