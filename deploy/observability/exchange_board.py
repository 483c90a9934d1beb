"""Other nodes: who is there, rounds, transfers, refusals."""

from __future__ import annotations

from panels import Board, Panel, of, quantile, rate

_NODE = "{{instance}}"
_PEER = "{{instance}} {{peer}}"
_WAY = "{{instance}} {{direction}}"
_ALONE = "on nodes without peers.listen, and before a neighbour was heard"
_PORT = "on nodes without peers.listen"
_TLS = "on nodes without TLS"
_NO_EVENT = "until it happens for the first time"
_NO_ROUND = "on nodes that mix in no rounds"


def _per_hour(name: str, by: str) -> str:
    return f"sum by ({by}) (increase({of(name)}[1h]))"


EXCHANGE = Board(
    "mergenode-exchange", "mergenode / exchange", "Other nodes as each node sees them: membership, rounds, transfers.",
    {
        "Nodes": (
            Panel("Neighbours up", "1 while a neighbour answers and is not banned.", "short",
                  {of("mergenode_peer_up"): _PEER}, empty=_ALONE),
            Panel("State of neighbours", "Suspect again and again: a line that loses messages.", "short",
                  {f"sum by (instance, state) ({of('mergenode_peer_state')})": "{{instance}} {{state}}"}, empty=_ALONE),
            Panel("Last heard", "Seconds since a neighbour was heard.", "s",
                  {of("mergenode_peer_last_seen_seconds"): _PEER}, empty=_ALONE),
            Panel("Round trip", "From the last call of a neighbour to its answer.", "s",
                  {of("mergenode_peer_rtt_seconds"): _PEER}, empty=_ALONE),
            Panel("Clocks", "How far clocks of neighbours are ahead.", "s",
                  {of("mergenode_clock_skew_seconds"): _PEER}, empty=_ALONE),
            Panel("Banned", "Nodes that are not listened to.", "short", {of("mergenode_peers_banned"): _NODE},
                  empty=_PORT, thresholds=(1,)),
        ),
        "Calls": (
            Panel("Calls answered", "Per second, by method and status.", "cps",
                  {f"sum by (method, code) ({rate('mergenode_rpc_total')})": "{{method}} {{code}}"}, empty=_ALONE),
            Panel("Time of calls", "To their last byte.", "s",
                  {quantile(0.95, "mergenode_rpc_seconds", "instance, service"): "{{instance}} {{service}}"},
                  empty=_ALONE),
            Panel("Refused per hour", "Heads and calls of other nodes, and callers that were not let in.", "short",
                  {_per_hour("mergenode_refusals_total", "code"): "{{code}}",
                   _per_hour("mergenode_auth_failures_total", "reason"): "not let in: {{reason}}"}, empty=_NO_EVENT),
            Panel("Certificate", "Time until the certificate of the gRPC port ends.", "s",
                  {of("mergenode_tls_cert_expiry_seconds"): _NODE}, empty=_TLS),
        ),
        "Rounds": (
            Panel("Epoch", "Of the newest round; -1 before the first.", "short", {of("mergenode_round_epoch"): _NODE}),
            Panel("Rounds per hour", "And trainings that failed, mixes that were dropped, models that were clipped.",
                  "short",
                  {f"increase({of('mergenode_rounds_total')}[1h])": f"{_NODE} rounds",
                   f"increase({of('mergenode_trainings_failed_total')}[1h])": f"{_NODE} failed",
                   f"increase({of('mergenode_mixes_dropped_total')}[1h])": f"{_NODE} dropped",
                   f"increase({of('mergenode_update_clipped_total')}[1h])": f"{_NODE} clipped"}),
            Panel("Phases", "Time of the phases of a round.", "s",
                  {quantile(0.95, "mergenode_round_seconds", "instance, phase"): "{{instance}} {{phase}}"}),
            Panel("Consensus distance", "Of the models around a node to their mean, and how far its training went.",
                  "short",
                  {of("mergenode_consensus_distance"): f"{_NODE} distance",
                   of("mergenode_update_size"): f"{_NODE} training"}),
            Panel("Distance of neighbours", "Of their models to ours in the newest round.", "short",
                  {of("mergenode_neighbour_distance"): _PEER}, empty=_NO_ROUND),
            Panel("Shares", "Of neighbours' models in the newest round.", "percentunit",
                  {of("mergenode_merge_weight"): _PEER}, empty=_NO_ROUND),
            Panel("Neighbours in the newest round", "What became of them.", "short",
                  {of("mergenode_round_neighbours"): "{{instance}} {{outcome}}"}),
            Panel("Lag", "Epochs that the farthest neighbour is ahead, and that the oldest model lay back.", "short",
                  {of("mergenode_epoch_skew"): f"{_NODE} behind", of("mergenode_staleness_epochs"): f"{_NODE} oldest"}),
        ),
        "Transfers": (
            Panel("Bytes", "As they travelled, per second.", "Bps",
                  {f"sum by (instance, direction) ({rate('mergenode_transfer_bytes_total')})": _WAY},
                  empty=_NO_EVENT),
            Panel("Bytes on the line for a byte of weights", "Near 1 nothing is saved.", "percentunit",
                  {of("mergenode_transfer_wire_ratio"): "{{instance}} {{direction}}"}, empty=_PORT),
            Panel("Weights per second", "That what travelled stands for.", "Bps",
                  {f"sum by (instance, direction) ({rate('mergenode_transfer_weight_bytes_total')})": _WAY},
                  empty=_PORT),
            Panel("Under way", "Transfers, and how far the newest one is.", "short",
                  {of("mergenode_transfer_active"): "{{instance}} {{direction}}",
                   of("mergenode_transfer_progress_ratio"): f"{_NODE} done"}, empty=_PORT),
            Panel("Time of a transfer", "From the first question to the last block.", "s",
                  {quantile(0.95, "mergenode_transfer_seconds"): f"{_NODE} 95 %"}, empty=_PORT),
            Panel("Trouble per hour", "Transfers postponed and resumed, damaged models.", "short",
                  {f"increase({of('mergenode_transfer_postponed_total')}[1h])": f"{_NODE} postponed",
                   f"increase({of('mergenode_resume_total')}[1h])": f"{_NODE} resumed",
                   f"increase({of('mergenode_store_damaged_total')}[1h])": f"{_NODE} damaged"}, empty=_PORT),
            Panel("Trouble by node per hour", "Transfers that stalled, blocks that were wrong or asked for again.",
                  "short",
                  {_per_hour("mergenode_transfer_stalled_total", "instance, peer"): f"{_PEER} stalled",
                   _per_hour("mergenode_hash_mismatch_total", "instance, peer"): f"{_PEER} wrong",
                   _per_hour("mergenode_blocks_refetched_total", "instance, peer"): f"{_PEER} again"},
                  empty=_NO_EVENT),
            Panel("Wasted and refused", "Bytes per second that came for nothing, and calls that were refused.", "Bps",
                  {f"sum by (instance) ({rate('mergenode_transfer_wasted_bytes_total')})": f"{_NODE} wasted",
                   f"sum by (code) ({rate('mergenode_transfer_refusals_total')})": "refused: {{code}}"},
                  empty=_NO_EVENT),
            Panel("Shelf", "Weights kept for others and for later.", "bytes",
                  {of("mergenode_store_bytes"): _NODE}, empty=_PORT),
            Panel("Blocks", "On the shelf.", "short", {of("mergenode_store_blocks"): _NODE}, empty=_PORT),
            Panel("Saved and removed", "Bytes per second that did not have to travel, and that left the shelf.", "Bps",
                  {rate("mergenode_dedup_bytes_total"): f"{_NODE} saved",
                   rate("mergenode_gc_bytes_total"): f"{_NODE} removed"}, empty=_PORT),
        ),
    },
)  # fmt: skip
