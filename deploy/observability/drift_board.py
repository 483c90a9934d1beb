"""The merge: where it is, how fast it moves, what newcomers do to it, layer group by layer group."""

from __future__ import annotations

from panels import Board, Panel, of

_NODE = "{{instance}}"
_GROUP = "{{instance}} {{group}}"
_FOLD = "before the first fold"
_SCORED = "on nodes without a task plug-in that evaluates"

DRIFT = Board(
    "mergenode-drift", "mergenode / merge drift", "Where the merge is, how fast it moves, and what newcomers do to it.",
    {
        "Whole model": (
            Panel("Distance from the base", "Of the newest version, and of the running merge before it is scaled, in "
                  "norms of the base.", "percentunit",
                  {of("mergenode_drift_ratio"): f"{_NODE} version",
                   of("mergenode_merge_relative_norm"): f"{_NODE} running merge"}),
            Panel("Step of the newest version", "Its distance from the version before, in norms of the base.",
                  "percentunit", {of("mergenode_version_step_ratio"): _NODE}),
            Panel("Distance from earlier versions", "From the version ten folds and a day ago, in norms of the base.",
                  "percentunit", {of("mergenode_distance_ratio"): f"{_NODE} {{{{since}}}}"}),
            Panel("Way per day", "Steps of one day added up, in norms of the base.", "percentunit",
                  {f"increase({of('mergenode_drift_path_total')}[1d])": _NODE}),
            Panel("Size of the newest contribution", "Norm of its task vector over that of the base.", "percentunit",
                  {of("mergenode_contribution_relative_norm"): _NODE}),
            Panel("Norms", "Of the base, of the running merge, and of what the newest version adds.", "short",
                  {of("mergenode_base_norm"): f"{_NODE} base", of("mergenode_merge_norm"): f"{_NODE} running merge",
                   of("mergenode_update_norm"): f"{_NODE} update"}),
            Panel("Scale", "Of the newest version, the method's own, and that of the norm rule.", "short",
                  {of("mergenode_scale"): "{{instance}} {{choice}}"}),
        ),
        "Newcomers": (
            Panel("Share kept", "Of the newest contribution.", "percentunit", {of("mergenode_share_kept"): _NODE}),
            Panel("Cosine with the merge", "Of the newest contribution with the merge before it; below zero it undoes "
                  "something.", "short", {of("mergenode_newcomer_cosine"): _NODE}),
            Panel("Weight and veto", "Weight of the newest contribution, and the share of it that was vetoed.", "short",
                  {of("mergenode_contribution_weight"): f"{_NODE} weight",
                   of("mergenode_vetoed_share"): f"{_NODE} vetoed"}),
            Panel("Spectrum taken", "Share of the spectrum that the merge occupies.", "percentunit",
                  {of("mergenode_capacity_taken"): _NODE}),
            Panel("Effective rank", "Averaged over matrices.", "short", {of("mergenode_effective_rank"): _NODE}),
            Panel("Shift of sizes", "Of newcomers against earlier members, in standard deviations; beyond 2 it is no "
                  "chance.", "short", {of("mergenode_newcomer_norm_shift"): _NODE}),
            Panel("Sign conflict", "Share of the newest contribution against the signs of the merge.", "percentunit",
                  {of("mergenode_sign_conflict"): _NODE}),
            Panel("Last spoken against", "Generation of the newest fold, and of the last one that a gate let pass and "
                  "had something against: `mergenode show --generation`.", "short",
                  {of("mergenode_newest_fold_generation"): f"{_NODE} newest",
                   of("mergenode_gate_last_generation") + " > 0": "{{instance}} {{gate}}"},
                  empty="where no gate let anything pass that it had something against"),
            Panel("Scores", "Of the merge when it was last measured, per task; more is better.", "short",
                  {of("mergenode_task_score"): "{{instance}} {{task}}"}, empty=_SCORED),
            Panel("Newest version that was scored", "Far behind the newest version: the task plug-in fails.", "short",
                  {of("mergenode_scored_version"): f"{_NODE} scored", of("mergenode_version"): f"{_NODE} newest"}),
        ),
        "Layer groups": (
            Panel("Farthest from the base", "Layer groups whose part of the merge is largest beside the base.",
                  "percentunit", {f"topk(12, {of('mergenode_group_relative_norm')})": _GROUP},
                  kind="bargauge", width=6, height=10, empty=_FOLD),
            Panel("Largest in the newest contribution", "Layer groups where it is largest beside the base.",
                  "percentunit", {f"topk(12, {of('mergenode_group_newcomer_relative_norm')})": _GROUP},
                  kind="bargauge", width=6, height=10, empty=_FOLD),
            Panel("Most opposed to the newest contribution", "Layer groups with the lowest cosine.", "short",
                  {f"bottomk(12, {of('mergenode_group_newcomer_cosine')})": _GROUP},
                  kind="bargauge", width=6, height=10, empty=_FOLD),
            Panel("Least kept", "Layer groups that kept the smallest share of the newest contribution.", "percentunit",
                  {f"bottomk(12, {of('mergenode_group_share_kept')})": _GROUP},
                  kind="bargauge", width=6, height=10, empty=_FOLD),
            Panel("Shift of sizes by layer group", "Of newcomers against earlier members, in standard deviations.",
                  "short", {of("mergenode_group_newcomer_norm_shift"): _GROUP}, width=12, empty=_FOLD),
            Panel("Distance by layer group", "From the version ten folds and a day ago, in norms of the base of each "
                  "group.", "percentunit", {of("mergenode_group_distance_ratio"): f"{_GROUP} {{{{since}}}}"}, width=12,
                  empty="before the first version"),
            Panel("Norm by layer group", "Of the running merge, in weight units.", "short",
                  {of("mergenode_group_merge_norm"): _GROUP}, width=12, empty=_FOLD),
            Panel("Distance from the base by layer group", "In norms of the base of each group.", "percentunit",
                  {of("mergenode_group_relative_norm"): _GROUP}, width=12, empty=_FOLD),
        ),
    },
)  # fmt: skip
