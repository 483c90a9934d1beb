"""The story: a real node, nine pushes, one kill. Nothing is staged: every number is read back from disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import torch

from mergenode.demo.cast import Cast, Delivery
from mergenode.demo.checkpoints import read_weights
from mergenode.demo.node import Interruption, NodeProcess, facts_of
from mergenode.demo.report import Report
from mergenode.demo.results import Kill, Rejection, Results, VersionScore
from mergenode.demo.scores import Examination, gain_kept, mean
from mergenode.errors import FatalError
from mergenode.ledger.records import Folded, Rejected

FIRST_KILL = 2
"""The kill waits until this many contributions are folded: there is something to lose by then, and four folds are
left to catch one of. A fold of this model takes milliseconds, and on a busy machine one may slip through."""


class Story:
    """Plays the deliveries against one running node and fills ``results``."""

    def __init__(self, cast: Cast, node: NodeProcess, report: Report, examination: Examination) -> None:
        self.cast = cast
        self.node = node
        self.report = report
        self.results = Results()
        self._examination = examination

    def introduce(self) -> None:
        """Score the base and the experts."""
        self.results.base = self._examination.score(self.cast.base)
        self.report.score_header()
        self.report.score_row("base", self.results.base)
        for name, weights in self.cast.experts.items():
            self.results.experts[name] = self._examination.score(weights)
            self.report.score_row(f"expert {name}", self.results.experts[name], inside=[name])

    def play(self, deliveries: tuple[Delivery, ...]) -> None:
        """Push one after another, each after the node has decided about the one before."""
        self.report.score_header()
        for delivery in deliveries:
            due = not self.results.kills and len(self.results.versions) >= FIRST_KILL and delivery.task is not None
            offset = self.node.log_size()
            self.push(delivery)
            interruption = self.node.freeze_fold(delivery.name) if due else None
            if interruption is not None:
                self._kill(interruption)
            self._decided(delivery)
            if interruption is not None:
                self._recovered(interruption, offset)

    def push(self, delivery: Delivery) -> None:
        """Write under a hidden name, mark it complete if this team does so, rename it into the registry."""
        inbox = self.node.directory / "inbox"
        hidden = delivery.write(inbox / f".{delivery.name}.partial")
        if delivery.marked:
            run_command("commit", str(hidden))
        hidden.rename(inbox / delivery.name)

    def _decided(self, delivery: Delivery) -> None:
        fact = self.node.wait_outcome(delivery.name)
        if isinstance(fact, Rejected):
            self.results.rejections.append(Rejection(fact.name, fact.reason, fact.message))
            self.report.say(f"{delivery.what}: rejected, {fact.reason}", "red")
            return
        if not isinstance(fact, Folded) or delivery.task is None:
            raise FatalError(f"the node decided {fact.kind!r} about {delivery.name!r}, which the demo did not expect")
        published = self.node.wait_version(fact.generation)
        self.results.drift[fact.name] = [dict(group) for group in fact.groups]
        scores = self._examination.score(read_weights(Path(published.path)))
        inside = list(self.results.drift)
        kept = gain_kept(scores, self.results.base, self.results.experts, inside)
        self.results.versions.append(VersionScore(published.version, fact.name, scores, mean(scores), kept))
        how = {"adapter": " (LoRA)"}.get(fact.contribution_kind, "") + (" (marker)" if delivery.marked else "")
        self.report.score_row(f"v{published.version} +{fact.name}{how}", scores, kept, inside)

    def _kill(self, interruption: Interruption) -> None:
        self.node.kill()
        self.report.say(f"SIGKILL while {interruption.name} is being folded", "bold red")
        self.results.kills.append(Kill(interruption.name, interruption.files, interruption.size_bytes, 0, ()))
        self.report.kill(self.results.kills[-1])
        self.node.start()
        self.report.say("started again, nothing cleaned up by hand", "bold green")

    def _recovered(self, interruption: Interruption, offset: int) -> None:
        kill = self.results.kills[-1]
        folded = sum(1 for fact in facts_of(self.node, "folded") if isinstance(fact, Folded) and fact.name == kill.name)
        told = tuple(line for line in self.node.log_since(offset).splitlines() if "recovery:" in line)
        self.results.kills[-1] = Kill(kill.name, kill.files, kill.size_bytes, folded, told)
        once = "exactly once" if folded == 1 else f"{folded} times"
        self.report.say(f"{interruption.name} was folded {once}, according to the ledger")
        for line in told:
            self.report.say(line, "dim")

    def verify(self, inbox_order: list[Path]) -> None:
        """Replay everything from the base, and merge the same checkpoints in one go, undisturbed.

        Raises:
            FatalError: a command failed; the message holds its output.
        """
        directory = self.node.directory
        run_command("verify", "-c", str(self.node.config), "--replay")
        self.results.verified = True
        self.report.say("verify --replay: ledger, statistics and every published tensor are as recorded", "green")
        models = [str(path) for path in inbox_order]
        for method in ("opcm", "average"):
            output = directory / "one-shot" / method
            output.parent.mkdir(exist_ok=True)
            run_command(
                "merge", "--base", str(directory / "base"), "--output", str(output), "--method", method, *models
            )
        once, live = read_weights(directory / "one-shot" / "opcm"), read_weights(directory / "published" / "latest")
        self.results.equals_undisturbed = once.keys() == live.keys() and all(
            torch.equal(once[name], live[name]) for name in live
        )
        same = "bit for bit" if self.results.equals_undisturbed else "NOT"
        self.report.say(
            f"latest equals an undisturbed one-shot merge of the same six: {same}",
            "green" if self.results.equals_undisturbed else "bold red",
        )
        self.results.average = self._examination.score(read_weights(directory / "one-shot" / "average"))

    def stop(self) -> None:
        """SIGTERM and the exit code."""
        self.results.exit_code = self.node.terminate()
        self.report.say(f"SIGTERM: the node ended with exit code {self.results.exit_code}")


def run_command(*arguments: str) -> str:
    """Run one mergenode command and return what it printed. Raises FatalError with its output when it fails."""
    done = subprocess.run(  # noqa: S603 - our own program with arguments of our own
        [sys.executable, "-m", "mergenode", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        code = done.returncode
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        raise FatalError(f"`mergenode {' '.join(arguments)}` ended with {how}:\n{done.stdout}{done.stderr}")
    return done.stdout
