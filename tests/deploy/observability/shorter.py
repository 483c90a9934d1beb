"""The rules of deploy/observability with short durations, in the order that they have: a day in a minute."""

from __future__ import annotations

import sys
from typing import Any

from tests.support.observability import FOLDER

sys.path.insert(0, str(FOLDER))

from durations import seconds, timed  # type: ignore[import-not-found]  # scripts beside each other
from rules import rules  # type: ignore[import-not-found]

SHORTER = {
    "0m": "0s", "1m": "2s", "3m": "4s", "5m": "7s", "10m": "9s", "15m": "11s", "30m": "15s", "1h": "40s", "2h": "44s",
    "3h": "47s", "6h": "50s", "1d": "60s", "7d": "600s",
}  # fmt: skip
"""What is written instead. A week stays long: a score has to be seen falling, not to be forgotten."""


def shortened() -> dict[str, Any]:
    """For a Prometheus that scrapes and evaluates every second."""
    found: dict[str, Any] = rules(shorten=SHORTER.__getitem__)
    return {"groups": [{**group, "interval": "1s"} for group in found["groups"]]}


__all__ = ["SHORTER", "rules", "seconds", "shortened", "timed"]
