"""Alerts about the merge: where versions go, what newcomers do to it, what the selector and scores say."""

from __future__ import annotations

from rule_table import VALUE, Alert, Case, firing, layers, of, quiet, shown

_NODE = "{{ $labels.instance }}"
_NEWEST = shown()
_SELECTION_FAILS = (
    'sum without (reason) (increase(mergenode_retries_total{reason="task_failed"}[1h])) >= 2 '
    "and increase(mergenode_selections_total[1h]) == 0 and mergenode_pool_size > 0"
)
_HUGE = (
    "mergenode_contribution_relative_norm > 0.5 or (mergenode_contribution_relative_norm > 4 * "
    "avg_over_time(mergenode:contribution_norm:newest[1d]) and mergenode_contributions_in_merge >= 4)"
)

_LARGE = (
    "mergenode_contribution_relative_norm > 0.5 or mergenode_contribution_relative_norm > 2 * "
    "avg_over_time(mergenode:contribution_norm:newest[1d])"
)
"""Explains a step, while ``_HUGE`` and for longer."""


def _steps(each: str, folds: str) -> dict[str, str]:
    return {
        of("mergenode_drift_path_total"): each,
        of("mergenode_contributions_total", registry="inbox", outcome="folded"): folds,
    }


def _folds(metric: str, values: str, **labels: str) -> dict[str, str]:
    return {of(metric, **labels): values, of("mergenode_contributions_in_merge"): "9x2000"}


def _layer(cosines: dict[str, str], whole: str) -> dict[str, str]:
    groups = {of("mergenode_group_newcomer_cosine", group=name): values for name, values in cosines.items()}
    return {of("mergenode_newcomer_cosine"): whole, **groups}


def _shifts(values: str) -> dict[str, str]:
    groups = {of("mergenode_group_newcomer_norm_shift", group=f"layers.{number}"): "0.4x60" for number in range(2)}
    return {**groups, of("mergenode_group_newcomer_norm_shift", group="lm_head"): values}


def _selections(failures: str, selections: str, pool: str) -> dict[str, str]:
    return {
        of("mergenode_retries_total", reason="task_failed"): failures,
        of("mergenode_selections_total"): selections,
        of("mergenode_pool_size"): pool,
    }


def _norms(odd: str) -> dict[str, str]:
    plain = {of("mergenode_group_relative_norm", group=f"layers.{number}"): "0.02x1600" for number in range(4)}
    members = {of("mergenode_contributions_in_merge"): "9x1600"}
    return {**plain, **members, of("mergenode_group_relative_norm", group="lm_head"): odd}


def _scales(used: str, rule: str) -> dict[str, str]:
    return {
        of("mergenode_scale", choice="used"): used,
        of("mergenode_scale", choice="norm_rule"): rule,
        of("mergenode_contributions_in_merge"): "9x200",
    }


DRIFT_ALERTS = (
    Alert(
        "MergenodeDriftPerDay", "mergenode.drift", "warning", "0m",
        "mergenode:drift:increase1d > 0.5",
        f"versions of {_NODE} moved {VALUE} norms of the base within a day",
        "Steps from version to version add up to more than half the norm of the base. Largest layer groups: "
        + layers("mergenode_group_relative_norm", "topk"),
        firing("12h", _steps("0+0.001x1000", "0+0.1x1000")),
        quiet("12h", _steps("0+0.0002x1000", "0+0.1x1000")),
    ),
    Alert(
        "MergenodeDriftPerFold", "mergenode.drift", "warning", "5m",
        "mergenode:drift_per_fold:ratio1d > 0.1",
        f"a fold moves the versions of {_NODE} by {VALUE} norms of the base, as a mean of one day",
        "Fine-tunes usually move a merge by a few hundredths. Contributions are trained too hot or weigh too much.",
        firing("2h", _steps("0x10 0.15x60 0.3x100", "0x10 1x60 2x100")),
        quiet("2h", _steps("0x10 0.02x60 0.04x100", "0x10 1x60 2x100")),
    ),
    Alert(
        "MergenodeDriftJump", "mergenode.drift", "warning", "0m",
        "mergenode_version_step_ratio > 0.02 and mergenode_version_step_ratio > 3 * "
        f"avg_over_time(mergenode:version_step:newest[1d]) and mergenode_contributions_in_merge >= 4 unless ({_LARGE})",
        f"the newest version of {_NODE} is {VALUE} norms of the base from the one before",
        f"That is over three times the usual step. {_NEWEST}.",
        firing("6h", _folds("mergenode_version_step_ratio", "0.01x330 0.08x60")),
        quiet("6h", _folds("mergenode_version_step_ratio", "0.03x330 0.06x60")),
    ),
    Alert(
        "MergenodeContributionHuge", "mergenode.drift", "warning", "0m",
        _HUGE,
        f"the last contribution of {_NODE} is {VALUE} times as large as the base",
        "Over half the base, or over four times the usual contribution. Largest against the base in: "
        + layers("mergenode_group_newcomer_relative_norm", "topk")
        + f"; {_NEWEST}.",
        firing("6h", _folds("mergenode_contribution_relative_norm", "0.02x330 0.2x60")),
        quiet("6h", _folds("mergenode_contribution_relative_norm", "0.02x330 0.06x60")),
    ),
    Alert(
        "MergenodeShareKeptCollapsed", "mergenode.drift", "warning", "0m",
        "mergenode_share_kept < 0.2 or mergenode_share_kept < 0.5 * avg_over_time(mergenode:share_kept:newest[1d])",
        f"{_NODE} kept only {{{{ $value | humanizePercentage }}}} of the last contribution",
        "The merge has little room left, or the contribution repeats what is there. Least kept: "
        + layers("mergenode_group_share_kept", "bottomk")
        + f"; {_NEWEST}.",
        firing("6h", {of("mergenode_share_kept"): "0.9x330 0.3x60"}),
        quiet("6h", {of("mergenode_share_kept"): "_x30 0.9x300 0.6x60"}),
    ),
    Alert(
        "MergenodeNewcomerAgainstMerge", "mergenode.drift", "warning", "0m",
        "mergenode_newcomer_cosine < -0.1",
        f"the last contribution of {_NODE} points against the merge (cosine {VALUE})",
        "It undoes part of what is there. Most opposed: "
        + layers("mergenode_group_newcomer_cosine", "bottomk")
        + f"; {_NEWEST}.",
        firing("10m", _layer({"layers.0": "-0.5x20", "layers.1": "0.1x20"}, "-0.2x20")),
        quiet("10m", _layer({"layers.0": "-0.1x20", "layers.1": "0.1x20"}, "0.01x20")),
    ),
    Alert(
        "MergenodeLayersAgainstMerge", "mergenode.drift", "warning", "0m",
        "count without (group) (mergenode_group_newcomer_cosine < -0.3) unless mergenode_newcomer_cosine < -0.1",
        f"the last contribution of {_NODE} points against the merge in {{{{ $value }}}} layer groups",
        "As a whole it does not, so look at these: "
        + layers("mergenode_group_newcomer_cosine", "bottomk")
        + f"; {_NEWEST}.",
        firing("10m", _layer({"layers.0": "-0.5x20", "layers.1": "0.1x20"}, "0.05x20")),
        quiet("10m", _layer({"layers.0": "-0.2x20", "layers.1": "0.1x20"}, "0.05x20")),
    ),
    Alert(
        "MergenodeGateSpoke", "mergenode.drift", "warning", "0m",
        'sum without (action) (increase(mergenode_gate_findings_total{action="observe"}[1h])) > 0',
        f"gate {{{{ $labels.gate }}}} of {_NODE} has something against a contribution that is in the merge",
        "The gate only observes. Layer groups with the lowest cosine: "
        + layers("mergenode_group_newcomer_cosine", "bottomk")
        + "; with the largest part of the merge: "
        + layers("mergenode_group_relative_norm", "topk")
        + "; " + shown("mergenode_gate_last_generation", gate="$labels.gate") + " and what the gate says.",
        firing("20m", {of("mergenode_gate_findings_total", gate="top_share", action="observe"): "0x10 1x20"},
               gate="top_share"),
        quiet("90m", {of("mergenode_gate_findings_total", gate="top_share", action="observe"): "0x10 1x200"}),
    ),
    Alert(
        "MergenodeNewcomersShift", "mergenode.drift", "warning", "0m",
        "count without (group) (abs(mergenode_group_newcomer_norm_shift) > 2)",
        f"contributions of {_NODE} shift, fold after fold, in {{{{ $value }}}} layer groups",
        "Each of the newest is a little longer or shorter there than those before, always the same way: "
        + layers("mergenode_group_newcomer_norm_shift", "topk")
        + f" standard deviations; {_NEWEST}, `mergenode history --kind folded` those before.",
        firing("10m", _shifts("2.5x60")),
        quiet("10m", _shifts("1.5x60")),
    ),
    Alert(
        "MergenodeLayersApart", "mergenode.drift", "info", "5m",
        "mergenode_group_relative_norm > 0.05 and mergenode:group_norm:over_median > 5 "
        "and mergenode:group_norm:over_median > 3 * (mergenode:group_norm:over_median offset 1d) "
        "and on (job, instance) mergenode_contributions_in_merge offset 1d >= 4",
        f"layer group {{{{ $labels.group }}}} of {_NODE} is {VALUE} norms of its base away",
        "That is over five times as far as the median layer group, and it was not a day ago.",
        firing("26h", _norms("0.02x1500 0.3x90"), group="lm_head"),
        quiet("26h", _norms("0.3x1600")),
    ),
    Alert(
        "MergenodeScaleOffReference", "mergenode.drift", "info", "1h",
        "(mergenode:scale:over_norm_rule > 4 or mergenode:scale:over_norm_rule < 0.25) "
        "and mergenode_contributions_in_merge >= 2",
        f"{_NODE} publishes at {VALUE} times the scale of the norm rule",
        "The update is far from the mean norm of the contributions: too much or too little of them is published.",
        firing("2h", _scales("1x200", "0.2x200")),
        quiet("2h", _scales("1x200", "0.3x200")),
    ),
    Alert(
        "MergenodeScoreFell", "mergenode.drift", "critical", "0m",
        "max_over_time(mergenode_task_score[7d]) - mergenode_task_score > 0.02",
        f"task {{{{ $labels.task }}}} of {_NODE} lost {VALUE} since its best score of the week",
        "The merge got worse at something it could do. `mergenode history --kind folded` shows what came in since.",
        firing("6h", {of("mergenode_task_score", task="english"): "0.9x300 0.85x90"}, task="english"),
        quiet("6h", {of("mergenode_task_score", task="english"): "0.9x300 0.89x90"}),
    ),
    Alert(
        "MergenodeSelectionGapRising", "mergenode.selection", "warning", "30m",
        "mergenode_selection_gap > 2 * avg_over_time(mergenode:selection_gap:newest[1d]) "
        "and increase(mergenode_selections_total[1d]) > 0",
        f"the duality gap of {_NODE} rose to {VALUE}",
        "The chosen mix is farther from the best one than usual: more rounds are needed, or the loss is not smooth.",
        firing(
            "6h", {of("mergenode_selection_gap"): "0.01x300 0.05x90", of("mergenode_selections_total"): "0+0.1x400"}
        ),
        quiet(
            "6h", {of("mergenode_selection_gap"): "0.01x300 0.015x90", of("mergenode_selections_total"): "0+0.1x400"}
        ),
    ),
    Alert(
        "MergenodeSelectionFailing", "mergenode.selection", "critical", "5m",
        _SELECTION_FAILS,
        f"{_NODE} cannot select: the task plug-in fails",
        "The pool is not weighed any more. The last selection stays in force and is published.",
        firing("90m", _selections("0+0.1x200", "4x200", "8x200")),
        quiet("90m", _selections("1x200", "4+0.1x200", "8x200")),
    ),
    Alert(
        "MergenodeTaskFailing", "mergenode.selection", "warning", "5m",
        'sum without (reason) (increase(mergenode_retries_total{reason="task_failed"}[1h])) >= 2 '
        'and sum without (reason) (increase(mergenode_retries_total{reason="task_failed"}[30m])) > 0 '
        f"unless ({_SELECTION_FAILS}) unless increase(mergenode_selections_total[30m]) > 0",
        f"the task plug-in of {_NODE} fails again and again",
        "What needs scores, gradients or losses waits. Nothing is decided without them.",
        firing("90m", _selections("0+0.1x200", "0x200", "0x200")),
        quiet("90m", _selections("0+0.1x60 6x140", "4x60 5x140", "8x200")),
    ),
    Alert(
        "MergenodeTrainingFailing", "mergenode.selection", "warning", "0m",
        "increase(mergenode_trainings_failed_total[2h]) > 0",
        f"a training on {_NODE} failed or diverged",
        "The node offered its model of the round before instead.",
        firing("20m", {of("mergenode_trainings_failed_total"): "0x10 1x20"}),
        Case("20m", {of("mergenode_trainings_failed_total"): "3x30"}),
    ),
)  # fmt: skip
