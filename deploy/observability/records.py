"""Recording rules: what several alerts and panels ask for. A gauge that says NaN (not known) is left out of them."""

from __future__ import annotations

from rule_table import Record

RECORDS = (
    Record("mergenode:pending:sum", "sum without (registry) (mergenode_pending)"),
    Record(
        "mergenode:folds:increase1h",
        'sum without (registry, outcome) (increase(mergenode_contributions_total{outcome="folded"}[1h]))',
    ),
    Record("mergenode:retries:increase1h", "sum without (reason) (increase(mergenode_retries_total[1h]))"),
    Record("mergenode:version_step:newest", "mergenode_version_step_ratio >= 0"),
    Record("mergenode:share_kept:newest", "mergenode_share_kept >= 0"),
    Record("mergenode:contribution_norm:newest", "mergenode_contribution_relative_norm >= 0"),
    Record(
        "mergenode:group_norm:over_median",
        "mergenode_group_relative_norm / ignoring (group) group_left () "
        "quantile without (group) (0.5, mergenode_group_relative_norm)",
    ),
    Record("mergenode:selection_gap:newest", "mergenode_selection_gap >= 0"),
    Record("mergenode:consensus_distance:newest", "mergenode_consensus_distance >= 0"),
    Record("mergenode:drift:increase1d", "increase(mergenode_drift_path_total[1d])"),
    Record(
        "mergenode:drift_per_fold:ratio1d",
        "increase(mergenode_drift_path_total[1d]) / (sum without (registry, outcome) "
        '(increase(mergenode_contributions_total{outcome="folded"}[1d])) > 0)',
    ),
    Record(
        "mergenode:scale:over_norm_rule",
        'mergenode_scale{choice="used"} / ignoring (choice) mergenode_scale{choice="norm_rule"}',
    ),
)
