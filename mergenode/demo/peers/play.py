"""The whole demo of peers, from an empty directory to the picture."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

from rich.console import Console

from mergenode.demo.output import fresh_output
from mergenode.demo.peers.fashion import Fashion, load_fashion
from mergenode.demo.peers.network import Recipe, build
from mergenode.demo.peers.nodes import RING, UNION, Fleet, ring_edges
from mergenode.demo.peers.picture import draw
from mergenode.demo.peers.plugin import MODULE, SCORED
from mergenode.demo.peers.results import PeersResults
from mergenode.demo.peers.ring import ACTIVATIONS, LOCAL, METHODS, PLAIN, WEIGHTS, Circle
from mergenode.demo.peers.ring_story import RingStory, Script
from mergenode.demo.peers.union_story import Teams, edges, play_union, write_checkpoint
from mergenode.demo.picture import require_matplotlib
from mergenode.demo.report import Report
from mergenode.maths.threads import one_thread

NODES, SEED, SPLIT = 5, 0, "iid"
REFERENCE_ROUNDS = 6
LABELS = {
    LOCAL: "local only",
    PLAIN: "plain averaging",
    WEIGHTS: "weight matching",
    ACTIVATIONS: "activation matching",
}
CELL = 8


def play_peers(output: Path, console: Console) -> PeersResults:
    """Run the demo in ``output`` and leave everything there: settings, states, logs, picture, results.

    Raises:
        UsageError: matplotlib is missing, or ``output`` holds something that is not ours.
        FatalError: a node failed; the message says where its log is.
    """
    require_matplotlib()
    started = time.monotonic()
    directory = fresh_output(output)
    report, results = Report(console), PeersResults()
    whole = load_fashion()
    fashion = Fashion(whole.training, whole.test.first(SCORED))
    with one_thread():
        _references(fashion, report, results)
        play_ring(directory / "ring", report, results)
        play_sum(directory / "union", fashion, report, results)
    results.seconds = time.monotonic() - started
    draw(results, LABELS, directory / "peers.png")
    results.write(directory / "results.json")
    _finish(report, results, directory)
    return results


def _references(fashion: Fashion, report: Report, results: PeersResults) -> None:
    report.chapter("1. What is it worth? Five nodes in a ring, all in this process, without a network between them")
    report.say("Fashion-MNIST dealt alike, own initialisations, equal training; accuracy in %, mean of the five", "dim")
    circle = Circle(fashion, SPLIT, SEED, Recipe())
    head = "".join(f"{f'mix {number + 1}':>{CELL}}" for number in range(REFERENCE_ROUNDS))
    report.say(f"{'':<22}{head}", "bold")
    for method in METHODS:
        steps = [step for step, _ in circle.play(method, REFERENCE_ROUNDS)]
        means = [sum(step.mixed) / NODES for step in steps]
        results.references[method] = means
        report.say(f"{LABELS[method]:<22}" + "".join(f"{100 * mean:{CELL}.1f}" for mean in means))


def play_ring(
    directory: Path, report: Report, results: PeersResults, nodes: int = NODES, script: Script | None = None
) -> None:
    """The chapter of the ring, in a new directory. Raises FatalError as ``RingStory.play``."""
    report.chapter("2. Five real nodes: `mergenode run`, gRPC on loopback, activation matching")
    recipe = Recipe()
    with Fleet(directory, ring_edges(nodes), RING) as fleet:
        write_checkpoint(directory / "base", build(recipe.width, 0))
        for place, member in enumerate(fleet.members):
            seed = 100 * SEED + place  # as in Circle: the same beginnings
            write_checkpoint(member.process.directory / "start", build(recipe.width, seed))
            module = MODULE.format(split=SPLIT, nodes=nodes, node=place, deal_seed=SEED, seed=seed)
            (member.process.directory / "own_task.py").write_text(module, encoding="utf-8")
        RingStory(fleet, report, results, script).play()


def play_sum(directory: Path, fashion: Fashion, report: Report, results: PeersResults) -> None:
    """The chapter of the union, in a new directory. Raises FatalError as ``play_union``."""
    report.chapter("3. Union: three nodes in a line fold one fine-tune each and publish the same model")
    teams = Teams(fashion, SEED)
    with Fleet(directory, edges(), UNION) as fleet:
        write_checkpoint(directory / "base", teams.base)
        for member in fleet.members:
            (member.process.directory / "inbox").mkdir()
        play_union(fleet, teams, report, results)
    equal = len(set(results.digests.values())) == 1
    report.say("equal, bit for bit" if equal else "NOT equal", "bold green" if equal else "bold red")


def _finish(report: Report, results: PeersResults, directory: Path) -> None:
    last = results.last()
    mean = sum(each.mixed for each in last) / len(last)
    first = results.references
    report.chapter("4. In short")
    report.say(
        f"after the first mix: plain averaging {100 * first[PLAIN][0]:.1f} %, "
        f"activation matching {100 * first[ACTIVATIONS][0]:.1f} %"
    )
    report.say(
        f"in the end: training alone {100 * first[LOCAL][-1]:.1f} %, the real nodes {100 * mean:.1f} %, "
        "after a SIGKILL and a partition"
    )
    report.say(f"done in {results.seconds:.0f} s; everything lies in {directory}")
    relative = os.path.relpath(directory)
    where = shlex.quote(relative if not relative.startswith("..") else str(directory))
    report.chapter("Next")
    report.next_steps(
        [
            (f"{where}/peers.png", "the curves; the numbers are in results.json beside it"),
            (f"mergenode history -c {where}/ring/node-1/node.yaml", "every round: whose models, in which share"),
            (f"{where}/ring/node-1/own_task.py", "the task plug-in: data, training, evaluation"),
        ]
    )
