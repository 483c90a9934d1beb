"""The whole demo, from an empty directory to the picture."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from rich.console import Console

from mergenode.demo.cast import deliveries, train_cast
from mergenode.demo.checkpoints import write_full
from mergenode.demo.node import SETTINGS, NodeProcess
from mergenode.demo.output import fresh_output
from mergenode.demo.picture import draw, require_matplotlib
from mergenode.demo.report import Report
from mergenode.demo.results import Results
from mergenode.demo.scores import Examination
from mergenode.demo.story import Story
from mergenode.demo.training import one_thread


def play(output: Path, console: Console, *, keep: bool = False) -> Results:
    """Run the demo in ``output`` and leave everything there: checkpoints, versions, state, log, picture, results.

    Args:
        keep: leave the node running after the story, until an interrupt from the keyboard.

    Raises:
        UsageError: a package of the ``[demo]`` extra is missing, or ``output`` holds something that is not ours.
        FatalError: the node or a command failed; the message holds the end of its log.
    """
    require_matplotlib()
    started = time.monotonic()
    directory = fresh_output(output)
    report = Report(console)
    with one_thread():
        report.chapter("1. Six teams fine-tune one base (real handwritten digits, on this machine)")
        cast = train_cast(lambda what: report.say(f"training {what}", "dim"))
        base = write_full(directory / "base", cast.base, cast.config)
        (directory / "inbox").mkdir()
        (directory / "node.yaml").write_text(SETTINGS, encoding="utf-8")
        node = NodeProcess(directory)
        story = Story(cast, node, report, Examination(cast.digits, cast.config))
        story.introduce()
        try:
            _with_node(story, deliveries(cast, base), report, keep=keep)
        finally:
            node.close()
    story.results.seconds = time.monotonic() - started
    _finish(story, report, directory)
    return story.results
