"""Types the commands of a runbook, all of them, as its reader would."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.deploy.observability.scenario import Fault
from tests.support.observability import RUNBOOKS, commands
from tests.support.real_node import mergenode

PLACEHOLDER = re.compile(r"[A-Z]{3,}")
"""What a reader replaces. ``REASON`` is text and stays."""


def placeholders(command: str) -> set[str]:
    return {found for word in shlex.split(command) for found in PLACEHOLDER.findall(word)} - {"REASON"}


def filled(command: str, fault: Fault) -> list[str]:
    """The command with everything that stands for something replaced. Raises KeyError: the fault does not say."""
    newest = int(fault.node.value("mergenode_newest_fold_generation"))
    places: dict[str, object] = {"node.yaml": fault.node.real.config, "GENERATION": newest, **fault.places}
    for start, others in fault.others.items():
        if command.startswith(f"mergenode {start}"):
            places |= others
    return [str(places[word]) if word == "node.yaml" else _put_in(word, places) for word in shlex.split(command)[1:]]


def _put_in(word: str, places: Mapping[str, object]) -> str:
    return word if word == "REASON" else PLACEHOLDER.sub(lambda found: str(places[found[0]]), word)


def operate(alert: str, fault: Fault) -> list[str]:
    """Run every command; returns them. Each has to succeed, or to end as the fault says that it does."""
    ran = []
    if fault.meanwhile is not None:
        fault.meanwhile()
    for command in dict.fromkeys(commands((RUNBOOKS / f"{alert}.md").read_text())):
        words = filled(command, fault)
        done = mergenode(*words, cwd=Path(fault.node.real.root))
        right = {0}.union(*(codes for start, codes in fault.codes.items() if command.startswith(f"mergenode {start}")))
        said = (command, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        assert done.returncode in right and "Traceback" not in done.stderr, said
        ran.append(command)
    return ran
