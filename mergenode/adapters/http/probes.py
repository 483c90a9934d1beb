"""What the probes of an orchestrator are told: pure judgements over one picture of the node."""

from __future__ import annotations

from dataclasses import dataclass

from mergenode.adapters.http.live import Live, RegistryState


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one probe; it passes when every one does."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def document(self, *, verbose: bool) -> dict[str, object]:
        """``status`` and what failed, with ``verbose`` every check."""
        answer: dict[str, object] = {"status": "ok" if self.ok else "failed"}
        if not self.ok:
            answer["reasons"] = [check.detail for check in self.checks if not check.ok]
        if verbose:
            answer["checks"] = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return answer


def liveness(live: Live, stalled_after_seconds: float) -> Verdict:
    """Alive while the loop turns or a long piece of work moves; only a restart helps otherwise.

    A fold of a large model keeps the loop busy for long: it counts as life exactly as long as it advances.
    """
    age = live.loop_age
    detail = f"the loop last turned {age:.0f} s ago (limit {stalled_after_seconds:.0f} s)"
    alive = age < stalled_after_seconds
    if live.running is not None:
        still = max(0.0, live.now - live.running.advanced)
        detail += f", {live.running.progress.activity} last advanced {still:.0f} s ago"
        alive = alive or still < stalled_after_seconds
    return Verdict((Check("loop", alive, detail),))


def startup(live: Live) -> Verdict:
    """Started once the committed state was read and checked."""
    return Verdict((_loaded(live),))


def readiness(live: Live) -> Verdict:
    """Ready when the state is loaded, every registry answered once, and the node is not stopping."""
    draining = Check("draining", not live.draining, "stopping" if live.draining else "not stopping")
    answers = tuple(
        Check(
            f"registry {state.name}",
            state.answered is not None,
            f"registry {state.name} {_answer(state)}",
        )
        for state in live.registries
    )
    return Verdict((_loaded(live), draining, *answers))


def _answer(state: RegistryState) -> str:
    if state.answered is not None:
        return "has answered"
    return f"has not answered yet: {state.error}" if state.error else "has not answered yet"


def _loaded(live: Live) -> Check:
    return Check("state", live.loaded, "state loaded" if live.loaded else "state not loaded yet")
