"""Every metric of a node, with its help text. ``docs/metrics.md`` lists the same; a test keeps them equal."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

SECONDS_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""From a toy model to an hour; a fold of a 0.5 B model takes seconds to minutes."""


class ContributionInstruments:
    """What arrives and what becomes of it. Labels: configured registries and closed reason codes only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.contributions = Counter(
            "mergenode_contributions_total",
            "Contributions settled since the start of the process (folded, rejected, duplicate).", ["registry", "outcome"], registry=registry,
        )  # fmt: skip
        self.rejected = Counter(
            "mergenode_rejected_total",
            "Contributions rejected since the start of the process, by reason code.",
            ["registry", "reason"], registry=registry,
        )  # fmt: skip
        self.retries = Counter(
            "mergenode_retries_total", "Transient failures that are tried again, by reason code.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.pending = Gauge(
            "mergenode_pending",
            "Complete contributions that wait to be folded.",
            ["registry"],
            registry=registry,
        )
        self.unsettled = Gauge(
            "mergenode_unsettled", "Entries that are still being written or wait for their shards.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.registry_last_success = Gauge(
            "mergenode_registry_last_success_timestamp_seconds",
            "When the registry last answered a listing, 0 when never.", ["registry"], registry=registry,
        )  # fmt: skip
        self.registry_errors = Counter(
            "mergenode_registry_errors_total", "Listings that failed.", ["registry"], registry=registry
        )


class MergeInstruments:
    """What the running merge is: size, norms and what it kept of the last contribution."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.version = Gauge(
            "mergenode_version", "Newest published version, 0 before the first.", registry=registry
        )
        self.count = Gauge(
            "mergenode_contributions_in_merge", "Contributions in the running merge.", registry=registry
        )
        self.merge_norm = Gauge(
            "mergenode_merge_norm", "Frobenius norm of the running merge, in weight units.", registry=registry
        )
        self.merge_relative_norm = Gauge(
            "mergenode_merge_relative_norm", "Norm of the running merge over the norm of the base.",
            registry=registry,
        )  # fmt: skip
        self.contribution_relative_norm = Gauge(
            "mergenode_contribution_relative_norm",
            "Norm of the last folded task vector over the norm of the base, NaN before the first.",
            registry=registry,
        )
        self.share_kept = Gauge(
            "mergenode_share_kept",
            "Share of the last folded task vector kept by the merge, NaN when not defined.",
            registry=registry,
        )
        self.group_share_kept = Gauge(
            "mergenode_group_share_kept",
            "Share of the last folded task vector kept by the merge, NaN when not defined, per layer group.",
            ["group"], registry=registry,
        )  # fmt: skip
        self.group_merge_norm = Gauge(
            "mergenode_group_merge_norm", "Frobenius norm of the running merge, per layer group.",
            ["group"], registry=registry,
        )  # fmt: skip


class WorkInstruments:
    """How the node works: durations, bytes, progress and signs of life."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self.fold_seconds = Histogram(
            "mergenode_fold_seconds", "Time from the start of a fold to its commit.",
            buckets=SECONDS_BUCKETS, registry=registry,
        )  # fmt: skip
        self.publish_seconds = Histogram(
            "mergenode_publish_seconds", "Time from the start of an export to the visible version.",
            buckets=SECONDS_BUCKETS, registry=registry,
        )  # fmt: skip
        self.fold_bytes = Counter(
            "mergenode_fold_bytes_total", "Bytes read and written by committed folds.", ["direction"],
            registry=registry,
        )  # fmt: skip
        self.fold_progress = Gauge(
            "mergenode_fold_progress_ratio", "Share of the running fold that is done, 0 when none runs.",
            registry=registry,
        )  # fmt: skip
        self.last_fold = Gauge(
            "mergenode_last_fold_timestamp_seconds", "When the last fold was committed, 0 when never.",
            registry=registry,
        )  # fmt: skip
        self.last_publish = Gauge(
            "mergenode_last_publish_timestamp_seconds", "When the last version became visible, 0 when never.",
            registry=registry,
        )  # fmt: skip
        self.loop_last = Gauge(
            "mergenode_loop_last_timestamp_seconds",
            "When the loop last showed that it is alive, 0 when never.",
            registry=registry,
        )  # fmt: skip
        self.statistics_bytes = Gauge(
            "mergenode_statistics_bytes", "Size of the statistics on disk.", registry=registry
        )
        self.published_bytes = Gauge(
            "mergenode_published_bytes", "Size of all published versions on disk.", registry=registry
        )
        self.disk_free_bytes = Gauge(
            "mergenode_disk_free_bytes", "Free bytes on the file system of the state.", registry=registry
        )
        self.build = Info("mergenode_build", "Version of the software that runs.", registry=registry)
        self.build.info({"version": version})
