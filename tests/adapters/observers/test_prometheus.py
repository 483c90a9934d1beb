"""Metrics as a scraper sees them."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import mergenode
from mergenode.adapters.observers.activity_metrics import ActivityMetrics
from mergenode.adapters.observers.gate_metrics import GateMetrics
from mergenode.adapters.observers.peer_metrics import PeerMetrics
from mergenode.adapters.observers.prometheus import MAX_GROUPS, PrometheusObserver
from mergenode.adapters.observers.reload_metrics import ReloadMetrics
from mergenode.adapters.observers.span_metrics import SpanMetrics
from mergenode.adapters.observers.transfers import TransferMetrics
from mergenode.adapters.peers.access.authorising import RULES
from mergenode.errors import RejectReason, TransientReason
from mergenode.ledger.records import Restated, Retracted
from mergenode.ledger.traces import trace_of
from mergenode.ports.activity import Activity
from mergenode.ports.observer import Progress
from mergenode.tracing.context import at, within
from mergenode.types import Listing, Unsettled
from mergenode.wire.sightings import PeerState
from tests.adapters.observers.test_transfers import tell_everything
from tests.support import facts
from tests.support.facts import mixed, selected
from tests.support.observed import TIME, UNIX, HandClock, content, duplicate, folded, group, published, rejected
from tests.support.peer_snapshot import row, snapshot

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
GOLDEN = Path(__file__).parent / "golden_exposition.txt"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def observer(registry: CollectorRegistry, clock: HandClock) -> PrometheusObserver:
    return PrometheusObserver(registry, ["inbox", "bucket"], clock)


def work_a_little(observer: PrometheusObserver) -> None:
    observer.heartbeat()
    observer.listed("inbox", Listing(unsettled=(Unsettled("inbox", "half", "shard missing"),)), 3)
    observer.listing_failed("bucket", "timeout")
    observer.retrying("team-1", TransientReason.DISK_FULL, "no space", 2.0)
    observer.fact(folded(1))
    observer.fact(folded(2, seconds=700.0))
    observer.fact(rejected())
    observer.fact(duplicate())
    observer.fact(published(2))
    scores = {"own": {"accuracy": 0.5}, "mixed": {"accuracy": 0.75}}
    observer.fact(mixed(3, epoch=5, spread=0.5, update=0.25, ahead=2, missing=1, scores=scores))
    observer.fact(selected(m1=0.5, m2=0.0))
    observer.sizes(statistics_bytes=10, published_bytes=20, disk_free_bytes=30)
    observer.progress(Progress("fold", "team-3", 1, 4, 25, 100))


def own_lines(exposition: str) -> str:
    """Without the lines about the process, which differ from run to run, and without the release."""
    kept = [line for line in exposition.splitlines(keepends=True) if "process_" not in line]
    return "".join(kept).replace(f'version="{mergenode.__version__}"', 'version="RELEASE"')


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


def test_exposition_is_the_golden_one(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    work_a_little(observer)
    assert own_lines(generate_latest(registry).decode()) == GOLDEN.read_text()


def test_facts_become_values(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    work_a_little(observer)
    value = registry.get_sample_value
    assert value("mergenode_contributions_total", {"registry": "inbox", "outcome": "folded"}) == 2
    assert value("mergenode_contributions_total", {"registry": "bucket", "outcome": "folded"}) == 0
    assert value("mergenode_rejected_total", {"registry": "inbox", "reason": "shape_mismatch"}) == 1
    assert value("mergenode_last_fold_timestamp_seconds") == UNIX
    assert value("mergenode_fold_seconds_sum") == 702.0
    assert value("mergenode_fold_bytes_total", {"direction": "read"}) == 200
    assert value("mergenode_merge_norm") == 3.0
    assert value("mergenode_merge_relative_norm") == pytest.approx(0.1)
    assert value("mergenode_share_kept") == 0.5
    assert value("mergenode_group_merge_norm", {"group": "layers.1"}) == 3.0
    assert value("mergenode_fold_progress_ratio") == 0.25
    assert value("mergenode_retries_total", {"reason": "disk_full"}) == 1
    assert value("mergenode_registry_errors_total", {"registry": "bucket"}) == 1


def test_a_selection_becomes_values(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    value = registry.get_sample_value
    assert math.isnan(value("mergenode_selection_gap"))
    observer.fact(selected(m1=0.5, m2=0.25, m3=0.0))
    assert value("mergenode_selections_total") == 1 and value("mergenode_selection_gap") == 0.001
    assert value("mergenode_selection_chosen") == 2 and value("mergenode_pool_size") == 3
    again = CollectorRegistry()
    PrometheusObserver(again, ["inbox"], HandClock()).restore([selected(m1=0.5)])
    assert again.get_sample_value("mergenode_selection_rounds") == 2
    assert again.get_sample_value("mergenode_selections_total") == 0


def test_a_round_becomes_values(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    observer.fact(mixed(0, epoch=7, kept_own=True))
    entries = [
        {"node": f"{n:032x}", "epoch": 3, "weight": 0.1, "distance": 2.0, "clipped": 0.5} for n in (1 << 100, 2 << 100)
    ]
    observer.fact(mixed(1, epoch=4, parents=tuple(entries), training_failed="out of memory", stale=3, spread=0.5))
    value = registry.get_sample_value
    assert value("mergenode_round_epoch") == 4 and value("mergenode_rounds_total") == 2
    assert value("mergenode_staleness_epochs") == 1 and value("mergenode_consensus_distance") == 0.5
    assert value("mergenode_round_neighbours", {"outcome": "used"}) == 2
    assert value("mergenode_round_neighbours", {"outcome": "stale"}) == 3
    assert value("mergenode_merge_weight", {"peer": "00000010"}) == 0.1
    assert value("mergenode_merge_weight", {"peer": "abababab"}) is None, "of the newest round only"
    assert value("mergenode_update_clipped_total") == 2 and value("mergenode_mixes_dropped_total") == 1
    assert value("mergenode_trainings_failed_total") == 1 and math.isnan(value("mergenode_update_size"))
    again = CollectorRegistry()
    restored = PrometheusObserver(again, ["inbox"], HandClock())
    restored.restore([mixed(1, epoch=4)])
    assert (
        again.get_sample_value("mergenode_round_epoch") == 4 and again.get_sample_value("mergenode_rounds_total") == 0
    )


@pytest.mark.parametrize("end", [folded(3), rejected(), duplicate()])
def test_progress_returns_to_zero_when_the_fold_ends(
    registry: CollectorRegistry, observer: PrometheusObserver, end: object
) -> None:
    observer.progress(Progress("fold", "team-3", 4, 4, 100, 100))
    assert registry.get_sample_value("mergenode_fold_progress_ratio") == 1.0
    observer.fact(end)
    assert registry.get_sample_value("mergenode_fold_progress_ratio") == 0.0


def test_progress_of_other_work_and_of_an_empty_checkpoint_is_not_a_fold(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    observer.progress(Progress("publish", "v1", 1, 2, 50, 100))
    observer.progress(Progress("fold", "empty", 0, 0, 0, 0))
    assert registry.get_sample_value("mergenode_fold_progress_ratio") == 0.0


def test_timestamps_follow_the_clock(
    registry: CollectorRegistry, observer: PrometheusObserver, clock: HandClock
) -> None:
    observer.heartbeat()
    clock.advance(60)
    observer.listed("inbox", Listing(), 0)
    assert registry.get_sample_value("mergenode_loop_last_timestamp_seconds") == UNIX
    answered = registry.get_sample_value("mergenode_registry_last_success_timestamp_seconds", {"registry": "inbox"})
    assert answered == UNIX + 60


def test_restore_sets_gauges_and_leaves_counters(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    observer.restore([folded(6), published(6), folded(7), rejected()])
    value = registry.get_sample_value
    assert value("mergenode_contributions_in_merge") == 7
    assert value("mergenode_version") == 6
    assert value("mergenode_last_publish_timestamp_seconds") == UNIX
    assert value("mergenode_fold_seconds_count") == 0
    assert value("mergenode_contributions_total", {"registry": "inbox", "outcome": "folded"}) == 0
    assert value("mergenode_rejected_total", {"registry": "inbox", "reason": "shape_mismatch"}) is None


def test_what_a_method_does_not_define_is_nan(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    observer.fact(folded(1, groups=(group("*", share_kept=None, base_norm=0.0), group("a", share_kept=None))))
    for name, labels in [
        ("mergenode_share_kept", {}),
        ("mergenode_merge_relative_norm", {}),
        ("mergenode_group_share_kept", {"group": "a"}),
    ]:
        found = registry.get_sample_value(name, labels)
        assert found is not None and math.isnan(found), name


def test_a_thousand_wild_contributions_add_no_series(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    work_a_little(observer)
    observer.fact(rejected(registry="gone", reason="no such reason"))
    observer.fact(folded(3, registry="gone"))
    observer.fact(duplicate(registry="gone"))
    observer.listed("gone", Listing(), 1)
    observer.listing_failed("gone", "x")
    observer.retrying("x", "no such reason", "y", 1.0)
    before = series(registry)
    for number in range(1000):
        wild = f'"}}\n{{evil="{number}\\ \u202e\udcff'
        observer.fact(folded(number, name=wild, registry=wild, revision=wild, location=wild))
        observer.fact(rejected(wild, registry=wild, reason=wild, message=wild))
        observer.fact(duplicate(wild, registry=wild))
        observer.listed(wild, Listing(), number)
        observer.listing_failed(wild, wild)
        observer.retrying(wild, wild, wild, 1.0)
        observer.progress(Progress("fold", wild, 0, 1, 0, 1))
        observer.message("warning", wild, field=wild)
    assert series(registry) == before
    assert "evil" not in generate_latest(registry).decode()


def test_layer_groups_are_bounded_and_the_rest_is_summed_in_squares(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    groups = [group(f"layers.{n}", kept_norm=3.0, delta_norm=4.0, merge_norm=2.0) for n in range(MAX_GROUPS + 16)]
    observer.fact(folded(1, groups=tuple(groups)))
    observer.fact(folded(2, groups=tuple(reversed(groups))))
    shown = {dict(labels)["group"] for name, labels in series(registry) if name == "mergenode_group_merge_norm"}
    assert len(shown) == MAX_GROUPS + 1 and "other" in shown
    assert registry.get_sample_value("mergenode_group_merge_norm", {"group": "other"}) == pytest.approx(8.0)
    assert registry.get_sample_value("mergenode_group_share_kept", {"group": "other"}) == pytest.approx(0.75)


def test_five_hundred_layers_and_a_thousand_contributions_stay_within_a_scrape(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    """With the metrics of the gRPC port, every kind of call on it, and sixteen neighbours."""
    work_a_little(observer)
    peers = [UUID(int=number) for number in range(16)]
    PeerMetrics(registry, lambda: snapshot(*(row(peer, PeerState.ALIVE) for peer in peers)))
    gate = GateMetrics(registry)
    gate.certificate(lambda: 1.0)
    for method in RULES:
        gate.answered(method, "OK", 0.1)
    transfers = TransferMetrics(registry)
    for peer in peers:
        tell_everything(transfers, str(peer))
    layers = tuple(group(f"model.layers.{n}") for n in range(500))
    for number in range(1, 1001):
        observer.fact(folded(number, groups=layers if number % 100 == 0 else ()))
        observer.fact(published(number, scale={"update_norm": 1.0}))
    assert registry.get_sample_value("mergenode_group_distance_ratio", {"group": "other", "since": "day"}) is not None
    assert len(generate_latest(registry).decode().splitlines()) <= 1500 + 2 * len(list(registry.collect()))
    assert len([sample for family in registry.collect() for sample in family.samples]) <= 1500


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=())), min_size=1, max_size=5, unique=True))
def test_any_tensor_name_leaves_the_exposition_readable(names: list[str]) -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, ["inbox"], HandClock())
    observer.fact(folded(1, groups=tuple(group(f"g{name}") for name in names)))
    text = generate_latest(registry).decode("utf-8")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert 1 <= len(families["mergenode_group_merge_norm"].samples) <= len(names)


def test_openmetrics_carries_the_exemplar_of_a_fold(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    observer.fact(folded(17, seconds=4.0))
    text = generate_openmetrics(registry).decode()
    bucket = next(line for line in text.splitlines() if 'fold_seconds_bucket{le="5.0"}' in line)
    exemplar = dict(re.findall(r'(\w+)="([^"]*)"', bucket.partition("# ")[2]))
    told = {"content": "blake3:000000000000", "generation": "17", "trace_id": trace_of(folded(17))}
    assert exemplar == told and "} 4.0" in bucket
    with within(at(trace_of(folded(17)))):
        observer.fact(published(3))
    observer.fact(rejected())
    text = generate_openmetrics(registry).decode()
    ours = [line for line in text.splitlines() if f'trace_id="{trace_of(folded(17))}"' in line]
    assert any("publish_seconds_bucket" in line and 'version="3"' in line for line in ours)
    assert f'trace_id="{trace_of(rejected())}"' in text
    assert "_created" not in text


def test_openmetrics_carries_the_version_of_a_publication(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    whole = group("*", merge_norm=1.0, kept_norm=1.0)
    observer.fact(folded(1, count=1, groups=(whole,)))
    observer.fact(published(1, seconds=4.0, generation=1, scale={"update_norm": 1.0}))
    text = generate_openmetrics(registry).decode()
    for name in ('publish_seconds_bucket{le="5.0"}', "drift_path_total"):
        line = next(line for line in text.splitlines() if line.startswith(f"mergenode_{name}"))
        assert 'version="1"' in line.partition("# {")[2] and 'generation="1"' in line.partition("# {")[2]


def test_the_document_lists_exactly_what_is_exported(
    registry: CollectorRegistry, observer: PrometheusObserver, clock: HandClock
) -> None:
    work_a_little(observer)
    PeerMetrics(registry, snapshot)
    SpanMetrics(registry)
    gate = GateMetrics(registry)
    gate.certificate(lambda: 1.0)
    gate.refused("/mergenode.v1.Peer/Hello", "role")
    gate.answered("/mergenode.v1.Peer/Hello", "OK", 0.1)
    tell_everything(TransferMetrics(registry))
    ReloadMetrics(registry, clock)
    running = Activity(kind="fold", subject="m", bytes_done=1, bytes_total=2, rate=1.0, remaining_seconds=1.0)
    ActivityMetrics(registry, lambda: [running])
    assert documented() == exported(registry)


def documented() -> dict[str, tuple[str, str, frozenset[str], str]]:
    rows = re.findall(
        r"^\| `((?:mergenode|process)_\w+)` \| (\w+) \| (\w*) ?\| ([\w, ]*?) ?\| ([^|]+) \| ([^|]*)\|$",
        DOCUMENT.read_text(),
        re.MULTILINE,
    )
    assert all(worry.strip() for name, *_, worry in rows if name.startswith("mergenode_"))
    return {
        name: (kind, unit, frozenset(labels.replace(" ", "").split(",")) - {""}, meaning)
        for name, kind, unit, labels, meaning, _ in rows
    }


def exported(registry: CollectorRegistry) -> dict[str, tuple[str, str, frozenset[str], str]]:
    found = {}
    for family in registry.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        name, kind = family.name + suffix, "gauge" if family.type == "info" else family.type
        stem = name.removesuffix("_total")
        unit = next((u for u in ("seconds", "bytes", "ratio") if stem.endswith("_" + u)), "")
        labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        found[name] = (kind, unit, labels, family.documentation)
    return found


def test_what_is_in_quarantine_is_counted_through_a_restart(registry: CollectorRegistry) -> None:
    observer = PrometheusObserver(registry, ["inbox"], HandClock())
    held = partial(registry.get_sample_value, "mergenode_quarantined")
    observer.restore([facts.quarantined(1), facts.quarantined(2), facts.released(3)])
    assert held() == 2
    finding = {"gate": "norm", "action": "quarantine"}
    observer.fact(facts.quarantined(4, findings=(finding, finding | {"gate": "../wild", "action": "wild"})))
    assert held() == 3
    observer.fact(facts.released(1))
    observer.fact(facts.rejected(2, content=facts.digest(2), reason="dropped"))
    observer.fact(facts.folded(1, content=facts.digest(4), findings=({"gate": "alignment", "action": "observe"},)))
    assert held() == 0
    found = partial(registry.get_sample_value, "mergenode_gate_findings_total")
    assert found({"gate": "norm", "action": "quarantine"}) == found({"gate": "other", "action": "other"}) == 1
    assert found({"gate": "alignment", "action": "observe"}) == 1
    outcome = {"registry": "inbox", "outcome": "quarantined"}
    assert registry.get_sample_value("mergenode_contributions_total", outcome) == 1
    observer.fact(facts.rejected(5, reason="score_fell"))
    refused = {"registry": "inbox", "reason": "score_fell"}
    assert registry.get_sample_value("mergenode_rejected_total", refused) == 1, "codes of gates are codes"


def test_every_reason_code_has_its_own_series(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    for reason in RejectReason:
        observer.fact(rejected(reason=reason.value))
    shown = {dict(labels)["reason"] for name, labels in series(registry) if name == "mergenode_rejected_total"}
    assert shown == {reason.value for reason in RejectReason}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    work_a_little(observer)
    exposition = own_lines(generate_latest(registry).decode())
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_what_left_the_merge_shows(registry: CollectorRegistry, observer: PrometheusObserver) -> None:
    observer.fact(folded(1))
    observer.fact(folded(2))
    gone = Retracted(time=TIME, registry="inbox", name="team-1", revision="r1", content=content(1))
    left = Restated(
        time=TIME,
        generation=3,
        count=1,
        totals={"merge_sq": 4.0},
        statistics=content(9),
        lineage=None,
        how="subtracted",
    )
    observer.fact(gone)
    observer.fact(left)
    assert registry.get_sample_value("mergenode_contributions_in_merge") == 1.0
    assert registry.get_sample_value("mergenode_merge_norm") == 2.0
    labels = {"registry": "inbox", "outcome": "retracted"}
    assert registry.get_sample_value("mergenode_contributions_total", labels) == 1.0
