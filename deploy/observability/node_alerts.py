"""Alerts about the process, its disk, its registries and the line that folds and publishes."""

from __future__ import annotations

from rule_table import JOB, VALUE, Alert, Case, firing, of, quiet

_NODE = "{{ $labels.instance }}"
_BEHIND = "mergenode_last_fold_timestamp_seconds > mergenode_last_publish_timestamp_seconds"
_OTHERS = 'reason!~"disk_full|task_failed|registry_unreachable"'
"""Reasons of retries that no other alert is about."""


def _line(*, pending: str, folded: str) -> dict[str, str]:
    """A node with contributions that wait."""
    return {
        of("mergenode_pending", registry="inbox"): pending,
        of("mergenode_contributions_total", registry="inbox", outcome="folded"): folded,
        of("mergenode_fold_progress_ratio"): "0x200",
        of("mergenode_retries_total", reason="read_failed"): "0x200",
    }


NODE_ALERTS = (
    Alert(
        "MergenodeDown", "mergenode.node", "critical", "5m",
        f"up{{{JOB}}} == 0",
        f"{_NODE} cannot be scraped",
        "Prometheus got no answer from the HTTP port for five minutes: the process is gone or hangs.",
        firing("6m", {of("up"): "0x10"}),
        quiet("6m", {of("up"): "1x2 0x3"}),
    ),
    Alert(
        "MergenodeAbsent", "mergenode.node", "critical", "10m",
        f"absent(up{{{JOB}}})",
        "no node is scraped at all",
        "Prometheus has no target whose job is that of mergenode: nothing below this alert is watched.",
        Case("11m", {"up{job=\"other\"}": "1x20"}, {}, instance=False),
        quiet("11m", {of("up"): "1x20"}),
    ),
    Alert(
        "MergenodeRestarting", "mergenode.node", "warning", "0m",
        f"changes(process_start_time_seconds{{{JOB}}}[1h]) > 3",
        f"{_NODE} restarted {{{{ $value }}}} times within an hour",
        "The process ends again and again. What was committed is safe; a fold at hand goes on where it was.",
        firing("30m", {of("process_start_time_seconds"): "1 1 2 2 3 3 4 4 5x60"}),
        quiet("30m", {of("process_start_time_seconds"): "1 1 2 2 3 3 4x60"}),
    ),
    Alert(
        "MergenodeLoopStalled", "mergenode.node", "critical", "1m",
        "time() - (mergenode_loop_last_timestamp_seconds > 0) > <15m>",
        f"the loop of {_NODE} has not moved for {{{{ $value | humanizeDuration }}}}",
        "Neither the loop nor a fold under way gave a sign of life. /livez fails as well.",
        firing("26m", {of("mergenode_loop_last_timestamp_seconds"): "1x40"}),
        quiet("26m", {of("mergenode_loop_last_timestamp_seconds"): "1+60x40"}),
    ),
    Alert(
        "MergenodeSettingsWrong", "mergenode.node", "warning", "10m",
        "mergenode_config_reload_failed == 1",
        f"the settings file of {_NODE} is wrong",
        "The node goes on with the settings that it had. Its next start would fail.",
        firing("12m", {of("mergenode_config_reload_failed"): "1x20"}),
        quiet("12m", {of("mergenode_config_reload_failed"): "1x5 0x15"}),
    ),
    Alert(
        "MergenodeDiskFull", "mergenode.node", "critical", "0m",
        'sum without (reason) (increase(mergenode_retries_total{reason="disk_full"}[15m])) > 0',
        f"{_NODE} has no space left to write",
        "A fold or a version waits for space. Nothing is lost; it is tried again by itself.",
        firing("20m", {of("mergenode_retries_total", reason="disk_full"): "0x15 1x10"}),
        quiet("40m", {of("mergenode_retries_total", reason="disk_full"): "0x15 1x60"}),
    ),
    Alert(
        "MergenodeDiskFilling", "mergenode.node", "warning", "10m",
        "mergenode_disk_free_bytes < 2 * mergenode_statistics_bytes or (predict_linear(mergenode_disk_free_bytes[6h], "
        "<1d>) < 0 and mergenode_disk_free_bytes offset 3h > 0)",
        f"the disk of {_NODE} fills: {{{{ $value | humanize1024 }}}}B are free, or will be in a day",
        "Free space is below twice the statistics (a fold needs once), or ends in a day at the pace of six hours.",
        firing("30m", {of("mergenode_disk_free_bytes"): "150x60", of("mergenode_statistics_bytes"): "100x60"}),
        quiet("5h", {of("mergenode_disk_free_bytes"): "90000-1x400", of("mergenode_statistics_bytes"): "100x400"}),
    ),
    Alert(
        "MergenodeRegistryUnreachable", "mergenode.line", "critical", "5m",
        "time() - mergenode_registry_last_success_timestamp_seconds > <10m> and "
        "increase(mergenode_registry_errors_total[30m]) > 0",
        f"{_NODE} cannot list registry {{{{ $labels.registry }}}}",
        "Listings fail and none succeeded for ten minutes. Contributions that lie there are not seen.",
        firing(
            "40m",
            {
                of("mergenode_registry_last_success_timestamp_seconds", registry="inbox"): "60x60",
                of("mergenode_registry_errors_total", registry="inbox"): "0+1x60",
            },
            registry="inbox",
        ),
        quiet(
            "40m",
            {
                of("mergenode_registry_last_success_timestamp_seconds", registry="inbox"): "60+60x60",
                of("mergenode_registry_errors_total", registry="inbox"): "0+1x60",
            },
        ),
    ),
    Alert(
        "MergenodeFoldsStalled", "mergenode.line", "warning", "15m",
        "mergenode:pending:sum > 0 "
        "and sum without (registry, outcome) (increase(mergenode_contributions_total[1h])) == 0 "
        "and changes(mergenode_fold_progress_ratio[30m]) == 0 and mergenode:retries:increase1h == 0 "
        "unless mergenode_pool_size > 0",
        f"{_NODE} has {{{{ $value }}}} contributions waiting and folds none",
        "Nothing was settled for an hour, no fold advances, and no failure is told.",
        firing("90m", _line(pending="3x200", folded="5x200")),
        quiet("90m", _line(pending="3x200", folded="5+1x200")),
    ),
    Alert(
        "MergenodeRetrying", "mergenode.line", "warning", "5m",
        f"increase(mergenode_retries_total{{{_OTHERS}}}[30m]) >= 2 and "
        f"increase(mergenode_retries_total{{{_OTHERS}}}[15m]) > 0 unless ignoring (reason) ({_BEHIND})",
        f"{_NODE} tries the same again and again: {{{{ $labels.reason }}}}",
        f"Transient failures of this kind keep coming back ({VALUE} in half an hour).",
        firing(
            "40m",
            {
                of("mergenode_retries_total", reason="read_failed"): "0+0.2x60",
                of("mergenode_last_fold_timestamp_seconds"): "60x60",
                of("mergenode_last_publish_timestamp_seconds"): "61x60",
            },
            reason="read_failed",
        ),
        quiet("40m", {of("mergenode_retries_total", reason="read_failed"): "0 1 2x60"}),
    ),
    Alert(
        "MergenodePublishFailing", "mergenode.line", "critical", "30m",
        f"{_BEHIND} and sum without (reason) "
        '(increase(mergenode_retries_total{reason!="disk_full"}[1h])) > 0',
        f"{_NODE} does not publish what it folded",
        "The newest fold is in no version, and attempts fail. Readers still see the version before.",
        firing(
            "50m",
            {
                of("mergenode_last_fold_timestamp_seconds"): "600x90",
                of("mergenode_last_publish_timestamp_seconds"): "500x90",
                of("mergenode_retries_total", reason="write_failed"): "0+0.2x90",
            },
        ),
        quiet(
            "50m",
            {
                of("mergenode_last_fold_timestamp_seconds"): "600x90",
                of("mergenode_last_publish_timestamp_seconds"): "500x90",
                of("mergenode_retries_total", reason="write_failed"): "4x90",
            },
        ),
    ),
    Alert(
        "MergenodeRejected", "mergenode.line", "warning", "0m",
        'sum without (outcome) (increase(mergenode_contributions_total{outcome="rejected"}[1h])) > 0',
        f"{_NODE} refused contributions of registry {{{{ $labels.registry }}}}",
        "Somebody's work is not in the merge. The ledger says whose, why, and what to do about it.",
        firing(
            "20m", {of("mergenode_contributions_total", registry="inbox", outcome="rejected"): "0x10 1x20"},
            registry="inbox",
        ),
        quiet("20m", {of("mergenode_contributions_total", registry="inbox", outcome="rejected"): "4x30"}),
    ),
    Alert(
        "MergenodeQuarantined", "mergenode.line", "warning", "15m",
        "mergenode_quarantined > 0",
        f"{{{{ $value }}}} contributions wait in the quarantine of {_NODE}",
        "Gates held them back. They are in no version until somebody decides.",
        firing("20m", {of("mergenode_quarantined"): "2x30"}),
        quiet("20m", {of("mergenode_quarantined"): "2x10 0x20"}),
    ),
    Alert(
        "MergenodeUnsettled", "mergenode.line", "info", "0m",
        "min_over_time(mergenode_unsettled[6h]) > 0 and mergenode_unsettled offset 6h > 0",
        f"entries of registry {{{{ $labels.registry }}}} of {_NODE} have not become complete for six hours",
        "Uploads that died, or shards that never came. They are not folded and take space.",
        firing("7h", {of("mergenode_unsettled", registry="inbox"): "1x500"}, registry="inbox"),
        quiet("7h", {of("mergenode_unsettled", registry="inbox"): "1x300 0x5 1x500"}),
    ),
)  # fmt: skip
