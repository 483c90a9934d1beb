"""Long work in words."""

from __future__ import annotations

from typing import Any

import pytest

from mergenode.ports.activity import Activity
from mergenode.ports.activity_text import sentence

MIB = 1 << 20


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"bytes_done": 64 * MIB, "bytes_total": 256 * MIB, "steps_done": 3, "steps_total": 12, "rate": 16.0 * MIB,
             "remaining_seconds": 12.0, "elapsed_seconds": 4.0},
            "fold of m: 25 %, 64.0 MiB of 256.0 MiB, 3 of 12 tensors, 16.0 MiB/s, 12 s left",
        ),
        ({"elapsed_seconds": 75.0}, "fold of m: 1 min 15 s so far"),
        ({"started": "2026-01-02T03:04:05Z", "steps_done": 1, "steps_total": 2},
         "fold of m: 50 %, 1 of 2 tensors, begun 2026-01-02T03:04:05Z"),
        ({"kind": "training", "subject": "round 3", "steps_done": 7, "step": "batches", "unit": "batches", "rate": 0.25,
          "elapsed_seconds": 30.0}, "training of round 3: 7 batches, 0.25 batches/s, 30.00 s so far"),
        ({"kind": "transfer", "peer": "north", "bytes_done": MIB, "elapsed_seconds": 100.0, "silent_seconds": 90.0,
          "waits_for": "the disk"},
         "transfer of m (from north): 1.0 MiB, 1 min 40 s so far, nothing new for 1 min 30 s, waits for the disk"),
        ({"kind": "transfer", "subject": "model ab to north", "peer": "north", "elapsed_seconds": 1.0},
         "transfer of model ab to north: 1.00 s so far"),
    ],
)  # fmt: skip
def test_sentences(fields: dict[str, Any], text: str) -> None:
    assert sentence(Activity(**{"kind": "fold", "subject": "m", **fields}).document()) == text
