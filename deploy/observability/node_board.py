"""One node: its registries, its folds and versions, its disk."""

from __future__ import annotations

from panels import Board, Panel, of, quantile, rate

_NODE = "{{instance}}"
_WHY = "{{instance}} {{reason}}"
_BY_REGISTRY = "{{instance}} {{registry}}"

NODE = Board(
    "mergenode-node", "mergenode / node", "One node: what arrives, what becomes of it, how long that takes.",
    {
        "Arrivals": (
            Panel("Waiting by registry", "Complete contributions that are not folded yet.", "short",
                  {of("mergenode_pending"): _BY_REGISTRY}),
            Panel("Not complete", "Entries that are still written or wait for shards.", "short",
                  {of("mergenode_unsettled"): _BY_REGISTRY}),
            Panel("Registry last answered", "Seconds since the last listing that succeeded.", "s",
                  {f"time() - ({of('mergenode_registry_last_success_timestamp_seconds')} > 0)": _BY_REGISTRY}),
            Panel("Listings that failed", "Per second.", "cps",
                  {f"sum by (instance, registry) ({rate('mergenode_registry_errors_total')})": _BY_REGISTRY}),
            Panel("Rejected per hour", "By reason code; docs/outcomes.md says what each means.", "short",
                  {f"sum by (instance, reason) (increase({of('mergenode_rejected_total')}[1h]))": _WHY},
                  empty="until something is rejected"),
            Panel("What gates found per hour", "By gate and by what followed.", "short",
                  {f"sum by (gate, action) (increase({of('mergenode_gate_findings_total')}[1h]))":
                   "{{gate}} {{action}}"}),
        ),
        "Folds and versions": (
            Panel("Fold", "Time from the start of a fold to its commit.", "s",
                  {quantile(0.5, "mergenode_fold_seconds"): f"{_NODE} half",
                   quantile(0.95, "mergenode_fold_seconds"): f"{_NODE} 95 %"}),
            Panel("Publish", "Time from the start of an export to the visible version.", "s",
                  {quantile(0.5, "mergenode_publish_seconds"): f"{_NODE} half",
                   quantile(0.95, "mergenode_publish_seconds"): f"{_NODE} 95 %"}),
            Panel("Running fold", "Share that is done; zero when none runs.", "percentunit",
                  {of("mergenode_fold_progress_ratio"): _NODE}),
            Panel("Long work", "Share that is done, by kind: folds, exports, replays, transfers and others.",
                  "percentunit", {of("mergenode_activity_progress_ratio"): "{{instance}} {{kind}}"},
                  empty="while nothing is under way"),
            Panel("Kinds of long work", "How many pieces of each are under way.", "short",
                  {f"{of('mergenode_activities')} > 0": "{{instance}} {{kind}}"}, empty="while nothing is under way"),
            Panel("Speed of long work", "Bytes a second, where it can be said.", "Bps",
                  {of("mergenode_activity_bytes_per_second"): "{{instance}} {{kind}}"},
                  empty="while nothing is under way"),
            Panel("Time left", "Of the work under way, where it can be said.", "s",
                  {of("mergenode_activity_remaining_seconds"): "{{instance}} {{kind}}"},
                  empty="while nothing is under way"),
            Panel("Age of the newest fold and version", "A version older than the newest fold waits to be published.",
                  "s",
                  {f"time() - ({of('mergenode_last_fold_timestamp_seconds')} > 0)": f"{_NODE} fold",
                   f"time() - ({of('mergenode_last_publish_timestamp_seconds')} > 0)": f"{_NODE} version"}),
            Panel("Bytes of folds", "Read and written per second.", "Bps",
                  {f"sum by (instance, direction) ({rate('mergenode_fold_bytes_total')})":
                   "{{instance}} {{direction}}"}),
            Panel("Failures that are tried again", "Per hour, by reason.", "short",
                  {f"sum by (instance, reason) (increase({of('mergenode_retries_total')}[1h]))": _WHY}),
        ),
        "Process and disk": (
            Panel("Disk", "Free space, and what statistics and versions take.", "bytes",
                  {of("mergenode_disk_free_bytes"): f"{_NODE} free",
                   of("mergenode_statistics_bytes"): f"{_NODE} statistics",
                   of("mergenode_published_bytes"): f"{_NODE} versions"}),
            Panel("Memory", "Resident and virtual.", "bytes",
                  {of("process_resident_memory_bytes"): f"{_NODE} resident",
                   of("process_virtual_memory_bytes"): f"{_NODE} virtual"}),
            Panel("Open files", "Against the limit of the process.", "short",
                  {of("process_open_fds"): f"{_NODE} open", of("process_max_fds"): f"{_NODE} limit"}),
            Panel("Traces", "Spans per second: handed to the collector, refused by it, or dropped before.", "short",
                  {f"sum by (instance, outcome) ({rate('mergenode_trace_spans_total')})":
                   "{{instance}} {{outcome}}"}),
            Panel("Settings", "1 while the file is wrong; how many settings in it take a restart.", "short",
                  {of("mergenode_config_reload_failed"): f"{_NODE} wrong",
                   of("mergenode_config_restart_pending"): f"{_NODE} take a restart"}),
            Panel("Age of the settings", "Seconds since the file was last read and found right.", "s",
                  {f"time() - {of('mergenode_config_last_reload_success_timestamp_seconds')}": _NODE}),
            Panel("Uptime", "Seconds since the process started.", "s",
                  {f"time() - {of('process_start_time_seconds')}": _NODE}, kind="stat", width=6, height=5),
            Panel("Last alive", "Seconds since the loop moved.", "s",
                  {f"time() - ({of('mergenode_loop_last_timestamp_seconds')} > 0)": _NODE},
                  kind="stat", width=6, height=5, thresholds=(300, 900)),
        ),
        "Selection": (
            Panel("Duality gap and loss", "Of the newest selection, in units of the loss.", "short",
                  {of("mergenode_selection_gap"): f"{_NODE} gap", of("mergenode_selection_loss"): f"{_NODE} loss"}),
            Panel("Pool", "What could be chosen, and what has weight.", "short",
                  {of("mergenode_pool_size"): f"{_NODE} pool", of("mergenode_selection_chosen"): f"{_NODE} chosen",
                   of("mergenode_selection_rounds"): f"{_NODE} rounds"}),
            Panel("Selections", "Time of a selection, and how many per hour.", "s",
                  {quantile(0.95, "mergenode_selection_seconds"): f"{_NODE} 95 %",
                   f"increase({of('mergenode_selections_total')}[1h])": f"{_NODE} per hour"}),
        ),
    },
)  # fmt: skip
