"""Alerts about other nodes: who is gone, who lies, whether rounds and transfers advance, who may call."""

from __future__ import annotations

from rule_table import VALUE, Alert, firing, grew, of, quiet

_NODE = "{{ $labels.instance }}"
_GONE = 'mergenode_peer_state{state=~"down|suspect"}'
_MOST_GONE = f"sum without (peer, state) ({_GONE}) / (count without (peer) (mergenode_peer_up) > 1) > 0.5"


def _peers(*down: str) -> dict[str, str]:
    """Three neighbours by name and whether they are down, minute by minute."""
    found = {}
    for number, values in enumerate(down):
        found[of("mergenode_peer_state", peer=f"p{number}", state="down")] = values
        found[of("mergenode_peer_up", peer=f"p{number}")] = "1x60"
    return found


def _rounds(total: str) -> dict[str, str]:
    return {of("mergenode_rounds_total"): total, of("mergenode_round_epoch"): "7x400"}


EXCHANGE_ALERTS = (
    Alert(
        "MergenodePeerDown", "mergenode.exchange", "warning", "5m",
        f"sum without (state) ({_GONE}) > 0 unless ignoring (peer) ({_MOST_GONE})",
        f"{_NODE} does not reach node {{{{ $labels.peer }}}}",
        "Its share of a round goes to the others; its contributions wait.",
        firing("10m", _peers("1x60", "0x60", "0x60"), peer="p0"),
        quiet("10m", _peers("1x7 0x60", "0x60", "0x60")),
    ),
    Alert(
        "MergenodePeersLost", "mergenode.exchange", "critical", "3m",
        _MOST_GONE,
        f"{_NODE} reaches less than half of its neighbours",
        "The network is cut, or this node is: {{ $value | humanizePercentage }} of them do not answer.",
        firing("10m", _peers("1x60", "1x60", "0x60")),
        quiet("2m", _peers("1x60", "1x60", "0x60")),
    ),
    Alert(
        "MergenodePeerBanned", "mergenode.exchange", "warning", "1m",
        "mergenode_peers_banned > 0",
        f"{_NODE} does not listen to {{{{ $value }}}} nodes",
        "They broke the rules of the exchange: forged or conflicting heads, or repeated refusals.",
        firing("5m", {of("mergenode_peers_banned"): "1x10"}),
        quiet("5m", {of("mergenode_peers_banned"): "0x10"}),
    ),
    Alert(
        "MergenodePeerMisbehaves", "mergenode.exchange", "warning", "0m",
        grew('mergenode_refusals_total{code=~"signature|malformed|conflicting"}', "1h"),
        f"{_NODE} refused what other nodes say: {{{{ $labels.code }}}}",
        "Somebody lies or is broken. `mergenode peers --json` counts refusals by node.",
        firing("30m", {of("mergenode_refusals_total", code="signature"): "_x10 1x60"}, code="signature"),
        quiet("30m", {of("mergenode_refusals_total", code="replayed"): "0x10 2x60"}),
    ),
    Alert(
        "MergenodeRoundStalled", "mergenode.exchange", "critical", "0m",
        "mergenode_round_epoch >= 0 and increase(mergenode_rounds_total[2h]) == 0 "
        "and mergenode_rounds_total offset 2h >= 0",
        f"{_NODE} has finished no round for two hours",
        "Its newest round is that of epoch {{ $value }}. It trains, waits for others, or all rounds are done.",
        firing("5h", _rounds("0+0.1x60 6x400")),
        quiet("5h", _rounds("0+0.1x400")),
    ),
    Alert(
        "MergenodeConsensusDistanceRising", "mergenode.exchange", "warning", "15m",
        "mergenode_consensus_distance > 2 * avg_over_time(mergenode:consensus_distance:newest[1d])",
        f"the models around {_NODE} move apart: consensus distance {VALUE}",
        "It is over twice its mean of the day: training moves models faster than mixing brings them together.",
        firing("6h", {of("mergenode_consensus_distance"): "0.1x320 0.5x60"}),
        quiet("6h", {of("mergenode_consensus_distance"): "0.1x320 0.15x60"}),
    ),
    Alert(
        "MergenodeMixesDropped", "mergenode.exchange", "warning", "0m",
        "increase(mergenode_mixes_dropped_total[2h]) >= 3",
        f"{_NODE} dropped {VALUE} mixes that were worse than its own model",
        "Mixing harms this node: its neighbours' data differ too much, or one of them trains too hot.",
        firing("2h", {of("mergenode_mixes_dropped_total"): "0x30 1x30 2x30 4x90"}),
        quiet("2h", {of("mergenode_mixes_dropped_total"): "0x30 1x200"}),
    ),
    Alert(
        "MergenodeBadBlocks", "mergenode.exchange", "critical", "0m",
        grew("mergenode_hash_mismatch_total", "1h"),
        f"node {{{{ $labels.peer }}}} sent {_NODE} blocks that are not what their hash says",
        "A broken machine or a liar. Nothing of it was used.",
        firing("10m", {of("mergenode_hash_mismatch_total", peer="p1"): "_x5 3x60"}, peer="p1"),
        quiet("3h", {of("mergenode_hash_mismatch_total", peer="p1"): "_x5 3x300"}),
    ),
    Alert(
        "MergenodeTransfersStalling", "mergenode.exchange", "warning", "0m",
        grew("mergenode_transfer_stalled_total", "1h", ">= 3"),
        f"transfers from node {{{{ $labels.peer }}}} to {_NODE} stop half-way",
        "Its line or its disk is too slow. Transfers go on from other nodes where there are any.",
        firing("1h", {of("mergenode_transfer_stalled_total", peer="p1"): "0+0.1x60"}, peer="p1"),
        quiet("1h", {of("mergenode_transfer_stalled_total", peer="p1"): "0x30 1x30"}),
    ),
    Alert(
        "MergenodeStoreDamaged", "mergenode.exchange", "critical", "0m",
        "increase(mergenode_store_damaged_total[6h]) > 0",
        f"{_NODE} found damaged weights on its shelf",
        "Bytes on its disk changed. They are fetched anew; the disk needs a look.",
        firing("30m", {of("mergenode_store_damaged_total"): "0x10 1x60"}),
        quiet("30m", {of("mergenode_store_damaged_total"): "1x60"}),
    ),
    Alert(
        "MergenodeCertificateExpiring", "mergenode.access", "warning", "5m",
        "mergenode_tls_cert_expiry_seconds < 604800",
        f"the certificate of {_NODE} ends in {{{{ $value | humanizeDuration }}}}",
        "Other nodes will refuse calls then. A renewed file is taken over without a restart.",
        firing("10m", {of("mergenode_tls_cert_expiry_seconds"): "86400-60x60"}),
        quiet("10m", {of("mergenode_tls_cert_expiry_seconds"): "864000-60x60"}),
    ),
    Alert(
        "MergenodeCallsRefused", "mergenode.access", "warning", "0m",
        grew("mergenode_auth_failures_total", "1h", "> 20"),
        f"{_NODE} refused {VALUE} callers within an hour: {{{{ $labels.reason }}}}",
        "Somebody tries, or a certificate or token is wrong.",
        firing("1h", {of("mergenode_auth_failures_total", reason="role"): "_x30 25x60"}, reason="role"),
        quiet("1h", {of("mergenode_auth_failures_total", reason="role"): "0x30 5x30"}),
    ),
)  # fmt: skip
