"""The table of all scenarios, filled by the modules that hold them."""

from __future__ import annotations

import importlib

from tests.deploy.observability.scenario import SCENARIOS

MODULES = (
    "process_scenarios", "line_scenarios", "drift_scenarios", "task_scenarios", "round_scenarios", "peer_scenarios",
)  # fmt: skip

for _name in MODULES:
    importlib.import_module(f"tests.deploy.observability.{_name}")

__all__ = ["SCENARIOS"]
