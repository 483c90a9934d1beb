"""The whole demo, from an empty directory to the picture."""

from __future__ import annotations

import os
import shlex
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from mergenode.demo.cast import Delivery, deliveries, train_cast
from mergenode.demo.checkpoints import write_full
from mergenode.demo.node import SETTINGS, NodeProcess
from mergenode.demo.output import fresh_output
from mergenode.demo.picture import draw, require_matplotlib
from mergenode.demo.report import Report
from mergenode.demo.results import Results
from mergenode.demo.scores import Examination
from mergenode.demo.story import Story
from mergenode.demo.tasks import load_digits_split
from mergenode.maths.threads import one_thread


def play(output: Path, console: Console, *, keep: bool = False) -> Results:
    """Run the demo in ``output`` and leave everything there: checkpoints, versions, state, log, picture, results.

    Args:
        keep: leave the node running after the story, until an interrupt from the keyboard.

    Raises:
        UsageError: a package of the ``[demo]`` extra is missing, or ``output`` holds something that is not ours.
        FatalError: the node or a command failed; the message holds the end of its log.
    """
    require_matplotlib()
    digits = load_digits_split()
    started = time.monotonic()
    directory = fresh_output(output)
    report = Report(console)
    with one_thread():
        report.chapter("1. Six teams fine-tune one base (real handwritten digits, on this machine)")
        cast = train_cast(digits, lambda what: report.say(f"training {what}", "dim"))
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


def _with_node(story: Story, pushes: tuple[Delivery, ...], report: Report, *, keep: bool) -> None:
    report.chapter("2. A node watches the inbox; nine pushes arrive, one after another")
    report.say(
        "kept: share of the experts' gain over the base, on the tasks inside; bold: that expert is inside", "dim"
    )
    story.node.start()
    story.play(pushes)
    if not story.results.kills:
        report.say("every fold was committed before the node could be frozen: no kill this time", "yellow")
    report.chapter("3. What did not get in, and why")
    report.rejections(story.results.rejections)
    report.chapter("4. Drift: how far each fold moved the merge, and how much of it was kept")
    report.drift(story.results.drift)
    report.chapter("5. Is it right?")
    story.verify([story.node.directory / "inbox" / name for name in story.results.drift])
    if keep:
        _keep_running(story.node, report)
    story.stop()


def _keep_running(node: NodeProcess, report: Report) -> None:
    """Wait for an interrupt from the keyboard, or for the node to end by itself."""
    url = next(word for line in reversed(node.log_since(0).splitlines()) for word in line.split() if "http://" in word)
    report.say(f"the node keeps running: {url}  (Ctrl-C ends it)", "bold")
    with suppress(KeyboardInterrupt):
        node.process.wait()


def _finish(story: Story, report: Report, directory: Path) -> None:
    results = story.results
    draw(results, directory / "accuracy.png")
    results.write(directory / "results.json")
    last = results.versions[-1]
    report.chapter("6. In short")
    report.score_header()
    report.score_row("base", results.base)
    report.score_row("plain average", results.average, inside=list(results.drift))
    report.score_row(f"v{last.version}, merged by the node", last.scores, last.gain_kept, list(results.drift))
    report.say(f"done in {results.seconds:.0f} s; everything lies in {directory}")
    relative = os.path.relpath(directory)
    where = shlex.quote(relative if not relative.startswith("..") else str(directory))
    config = f"-c {where}/node.yaml"
    report.chapter("Next")
    report.next_steps(
        [
            (f"{where}/accuracy.png", "the picture; the numbers are in results.json beside it"),
            (f"{where}/published/latest", "the merged model, an ordinary checkpoint"),
            (f"mergenode status {config}", "what is in the merge"),
            (f"mergenode history {config}", "every fact, in order"),
            (f"mergenode show negative {config}", "one contribution, layer group by layer group"),
            (f"mergenode diff 1 {last.version} {config}", "what changed between two versions"),
            (f"mergenode verify {config} --replay", "fold everything again from the base and compare"),
            (f"mergenode run {config}", "start the node again; drop your own fine-tune of the base into inbox/"),
        ]
    )
