"""Every metric of a node, with its help text. ``docs/metrics.md`` lists the same; a test keeps them equal."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

SECONDS_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""From a toy model to an hour; a fold of a 0.5 B model takes seconds to minutes."""


class ContributionInstruments:
    """What arrives and what becomes of it. Labels: configured registries and closed reason codes only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.contributions = counter(
            "mergenode_contributions_total",
            "Contributions settled since the start of the process, by outcome.",
            ["registry", "outcome"],
        )
        self.rejected = counter(
            "mergenode_rejected_total",
            "Contributions rejected since the start of the process, by reason code.",
            ["registry", "reason"],
        )
        self.retries = counter(
            "mergenode_retries_total", "Transient failures that are tried again, by reason code.", ["reason"]
        )
        self.pending = gauge(
            "mergenode_pending",
            "Complete contributions that wait to be folded.",
            ["registry"],
        )
        self.unsettled = gauge(
            "mergenode_unsettled",
            "Entries that are still being written or wait for their shards.",
            ["registry"],
        )
        self.registry_last_success = gauge(
            "mergenode_registry_last_success_timestamp_seconds",
            "When the registry last answered a listing, 0 when never.",
            ["registry"],
        )
        self.registry_errors = counter("mergenode_registry_errors_total", "Listings that failed.", ["registry"])


class MergeInstruments:
    """What the running merge is: size, norms and what it kept of the last contribution."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self.version = gauge("mergenode_version", "Newest published version, 0 before the first.")
        self.count = gauge("mergenode_contributions_in_merge", "Contributions in the running merge.")
        self.merge_norm = gauge("mergenode_merge_norm", "Frobenius norm of the running merge, in weight units.")
        self.merge_relative_norm = gauge(
            "mergenode_merge_relative_norm",
            "Norm of the running merge over the norm of the base.",
        )
        self.scale = gauge(
            "mergenode_scale",
            "Factor of the merged update: used by the newest version, the method's own, the norm rule's; NaN: none.",
            ["choice"],
        )
        self.update_norm = gauge(
            "mergenode_update_norm", "Norm of what the newest version adds to the base, NaN before the first."
        )
        self.contribution_relative_norm = gauge(
            "mergenode_contribution_relative_norm",
            "Norm of the last folded task vector over the norm of the base, NaN before the first.",
        )
        self.share_kept = gauge(
            "mergenode_share_kept",
            "Share of the last folded task vector kept by the merge, NaN when not defined.",
        )
        self.contribution_weight = gauge(
            "mergenode_contribution_weight", "Weight that the last contribution was folded with, 0 before the first."
        )
        self.vetoed_share = gauge(
            "mergenode_vetoed_share",
            "Share of the squared norm of the last contribution that protected capabilities vetoed.",
        )
        self.group_share_kept = gauge(
            "mergenode_group_share_kept",
            "Share of the last folded task vector kept by the merge, NaN when not defined, per layer group.",
            ["group"],
        )
        self.group_merge_norm = gauge(
            "mergenode_group_merge_norm", "Frobenius norm of the running merge, per layer group.", ["group"]
        )


class WorkInstruments:
    """How the node works: durations, bytes, progress and signs of life."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, buckets=SECONDS_BUCKETS, registry=registry)
        self.fold_seconds = histogram(
            "mergenode_fold_seconds",
            "Time from the start of a fold to its commit.",
        )
        self.publish_seconds = histogram(
            "mergenode_publish_seconds",
            "Time from the start of an export to the visible version.",
        )
        self.fold_bytes = counter(
            "mergenode_fold_bytes_total",
            "Bytes read and written by committed folds.",
            ["direction"],
        )
        self.fold_progress = gauge(
            "mergenode_fold_progress_ratio",
            "Share of the running fold that is done, 0 when none runs.",
        )
        self.last_fold = gauge(
            "mergenode_last_fold_timestamp_seconds",
            "When the last fold was committed, 0 when never.",
        )
        self.last_publish = gauge(
            "mergenode_last_publish_timestamp_seconds",
            "When the last version became visible, 0 when never.",
        )
        self.loop_last = gauge(
            "mergenode_loop_last_timestamp_seconds",
            "When the loop last showed that it is alive, 0 when never.",
        )
        self.statistics_bytes = gauge("mergenode_statistics_bytes", "Size of the statistics on disk.")
        self.published_bytes = gauge("mergenode_published_bytes", "Size of all published versions on disk.")
        self.disk_free_bytes = gauge("mergenode_disk_free_bytes", "Free bytes on the file system of the state.")
        self.build = Info("mergenode_build", "Version of the software that runs.", registry=registry)
        self.build.info({"version": version})
