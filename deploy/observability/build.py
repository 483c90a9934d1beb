"""Writes dashboards and rules. Needs Python alone; ``--help`` tells what can be fitted to a site."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from boards import DASHBOARDS  # noqa: E402 - the modules lie beside this file, wherever it is called from
from rule_table import JOB  # noqa: E402
from rules import RULES_FILE, rule_tests, rules  # noqa: E402
from yaml_text import yaml_text  # noqa: E402

CHART = HERE.parent / "helm" / "mergenode" / "files"
"""A chart can only install what lies inside it: the same rules and dashboards once more."""

NOTE = "# Written by deploy/observability/build.py; change its tables instead.\n"


def documents(job: str = JOB, runbooks: str = "docs/runbooks") -> Mapping[str, str]:
    """Relative path -> content of every file."""
    found = {
        f"rules/{RULES_FILE}": NOTE + yaml_text(rules(job, runbooks)),
        "rules/mergenode.rules.test.yaml": NOTE + yaml_text(rule_tests()),
    }
    for dashboard in DASHBOARDS:
        found[f"dashboards/{dashboard['uid']}.json"] = json.dumps(dashboard, indent=1) + "\n"
    return found


def in_chart(name: str) -> Path | None:
    """Where the chart keeps its copy of a file; None: it has none."""
    return None if name.endswith(".test.yaml") else CHART / name


def main() -> None:
    """Write them, and say which."""
    parser = argparse.ArgumentParser(description="Write Grafana dashboards and Prometheus rules.")
    parser.add_argument("--output", type=Path, default=HERE, help="directory to write into")
    parser.add_argument("--job", default=JOB, help="matcher of the scrape jobs (default: %(default)s)")
    parser.add_argument("--runbooks", default="docs/runbooks", help="where runbooks are read (default: %(default)s)")
    wanted = parser.parse_args()
    for name, text in documents(wanted.job, wanted.runbooks).items():
        copy = in_chart(name) if wanted.output == HERE else None
        for path in filter(None, (wanted.output / name, copy)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
