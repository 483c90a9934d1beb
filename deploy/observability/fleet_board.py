"""All nodes at a glance: are they up, do they agree, does anything wait."""

from __future__ import annotations

from panels import Board, Panel, of

_NODE = "{{instance}}"
_WHY = "{{instance}} {{reason}}"

FLEET = Board(
    "mergenode-fleet", "mergenode / fleet", "All nodes at a glance: up, busy, in step with each other.",
    {
        "Health": (
            Panel("Nodes up", "Nodes that answer to Prometheus.", "short",
                  {f"sum({of('up')})": "up", f"count({of('up')})": "known"}, kind="stat", width=6, height=5),
            Panel("Loop last alive", "Seconds since the loop of each node showed that it is alive; 900 fails /livez.",
                  "s", {f"time() - ({of('mergenode_loop_last_timestamp_seconds')} > 0)": _NODE},
                  kind="stat", width=6, height=5, thresholds=(300, 900)),
            Panel("In quarantine", "Contributions that wait for an operator.", "short",
                  {of("mergenode_quarantined"): _NODE}, kind="stat", width=6, height=5, thresholds=(1, 10)),
            Panel("Software", "Nodes by version of the software; more than one only during a roll-out.", "short",
                  {f"count by (version) ({of('mergenode_build_info')})": "{{version}}"},
                  kind="stat", width=6, height=5),
        ),
        "Work": (
            Panel("Waiting", "Complete contributions that are not folded yet.", "short",
                  {f"sum by (job, instance) ({of('mergenode_pending')})": _NODE}),
            Panel("Settled per hour", "Contributions by what became of them.", "short",
                  {f"sum by (outcome) (increase({of('mergenode_contributions_total')}[1h]))": "{{outcome}}"}),
            Panel("Failures that are tried again, per hour", "By reason; `disk_full` needs somebody at once.", "short",
                  {f"sum by (instance, reason) (increase({of('mergenode_retries_total')}[1h]))": _WHY}),
        ),
        "Agreement": (
            Panel("Newest version", "Nodes that fold the same contributions have the same version.", "short",
                  {of("mergenode_version"): _NODE}),
            Panel("Contributions in the merge", "Falls only after a retraction.", "short",
                  {of("mergenode_contributions_in_merge"): _NODE}),
            Panel("Distance from the base", "Of the newest version, in norms of the base.", "percentunit",
                  {of("mergenode_drift_ratio"): _NODE}),
        ),
        "Space": (
            Panel("Free on the file system of the state", "A fold needs as much as the statistics.", "bytes",
                  {of("mergenode_disk_free_bytes"): _NODE}),
            Panel("Resident memory", "Stays below engine.memory_limit and does not grow with contributions.", "bytes",
                  {of("process_resident_memory_bytes"): _NODE}),
            Panel("Processor", "Processor seconds per second.", "short",
                  {f"rate({of('process_cpu_seconds_total')}[$__rate_interval])": _NODE}),
        ),
    },
)  # fmt: skip
