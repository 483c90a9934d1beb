"""One round: train -> offer -> collect -> admit -> mix -> guard -> commit.

Each phase takes the state that the one before left on disk and ends with its own there. Killed anywhere, a phase is
repeated with the same input: the same chosen heads give the same model. The decisions are in ``mixers.rounds`` and
``mixers.defence``; here is the order of durable steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from mergenode.daemon.admission import admit
from mergenode.daemon.circle import COLLECTED, DEGREE, Circle, is_task_failure, offered
from mergenode.daemon.round_commit import commit
from mergenode.errors import FatalError, TransientError
from mergenode.ledger.round_state import Phase, RoundState, Taken
from mergenode.mixers.defence import Recipe, worse
from mergenode.mixers.rounds import ARRIVALS, Go, Standing, collect
from mergenode.ports.exchange import Arrived, Offer
from mergenode.wire.blocks import Root
from mergenode.wire.heads import METRIC_CHARACTERS, Parent

FIRST = "start.safetensors"
_OFFERED_METRICS = 16


@dataclass(slots=True)
class Watch:
    """What a process remembers of its waiting. After a restart it begins anew: only waits get longer by that.

    ``began``: of the process. ``since``: when the wait at hand began. ``due``: heads that are waited for, by node the
    epochs with the time of the own offer; late ones are noted when they come. ``came``: the newest epoch noted of each.
    """

    began: float
    since: float | None = None
    due: dict[UUID, dict[int, float]] | None = None
    noted: list[float] | None = None
    came: dict[UUID, int] = field(default_factory=dict)

    def waited(self, now: float) -> float:
        if self.since is None:
            self.since = now
        return now - self.since

    def expect(self, nodes: Mapping[UUID, bool], epoch: int, since: float) -> None:
        """These nodes are waited for. A head is noted once, however often the wait is looked at."""
        self.due = self.due or {}
        for node in nodes:
            if epoch > self.came.get(node, -1):
                self.due.setdefault(node, {}).setdefault(epoch, since)

    def note(self, arrived: Mapping[UUID, Arrived], now: float) -> None:
        """When what was waited for came, seconds after the own offer."""
        self.noted = self.noted or []
        for node, epochs in (self.due or {}).items():
            newest = arrived[node].head.epoch if node in arrived else -1
            came = [epoch for epoch in sorted(epochs) if epoch <= newest]
            if came:  # of rounds that it missed only the last one says how long it takes
                self.came[node] = came[-1]
                self.noted.append(now - epochs[came[-1]])
            for epoch in (*came, *sorted(epochs)[:-ARRIVALS]):
                epochs.pop(epoch, None)


Outcome = RoundState | float
"""The state of the next phase, or seconds to wait (> 0) before this one is looked at again."""


def advance(circle: Circle, state: RoundState, watch: Watch) -> Outcome:
    """Do the phase that is due, and make its result durable.

    Raises:
        TransientError: try the same again later; nothing of the round is lost.
        FatalError: the operator has to act.
        Stopped: the node is stopping; the phase is repeated after the next start.
    """
    phases: Mapping[Phase, Callable[[Circle, RoundState, Watch], Outcome]] = {
        Phase.TRAIN: _train,
        Phase.OFFER: _offer,
        Phase.COLLECT: _collect,
        Phase.ADMIT: _admit,
        Phase.MIX: _mix,
        Phase.GUARD: _guard,
        Phase.COMMIT: _commit,
        Phase.REST: _rest,
    }
    started = circle.line.clock.monotonic()
    result = phases[state.phase](circle, state, watch)
    if isinstance(result, RoundState):
        if result.number == state.number:
            spent = watch.since if state.phase is Phase.COLLECT and watch.since is not None else started
            seconds = circle.line.clock.monotonic() - spent
            result = replace(result, seconds={**result.seconds, state.phase.value: seconds})
        circle.store.save(result)
        watch.since = None
        _tidy(circle, result)
    return result


def begin(circle: Circle, make: Callable[[], None]) -> RoundState:
    """The state at a start: where the last process left off, or the first round of a new node.

    ``make``: stages ``FIRST``, the model that a new node begins with. A head that was offered before is offered again:
    this process has a new incarnation.
    """
    state = circle.store.load()
    if state is None:
        make()
        circle.store.install(FIRST)
        state = RoundState(start=FIRST)
        circle.store.save(state)
    elif state.phase not in (Phase.TRAIN, Phase.OFFER):
        collected = circle.rules.synchronous and state.phase is not Phase.COLLECT
        state = replace(state, root=_offered(circle, state, collected))
    _tidy(circle, state)
    return state


def _train(circle: Circle, state: RoundState, watch: Watch) -> RoundState:
    """Training that fails leaves the round's model as it was."""
    after = replace(state, phase=Phase.OFFER, trained=state.start, metrics={}, training_failed="")
    if circle.trainer is None or not circle.offers("train"):
        return after
    name = f"r{state.number:08d}-trained.safetensors"
    try:
        trained = circle.trainer.train(circle.store.path(state.start), state.epoch, circle.store.staging(name))
    except TransientError as error:
        if not is_task_failure(error):
            raise
        circle.tell("warning", f"round {state.number} goes on without training: {error.message}", hint=error.hint)
        return replace(after, training_failed=error.message)
    circle.store.install(name)
    return replace(after, trained=name, metrics=dict(trained.metrics))


def _offer(circle: Circle, state: RoundState, watch: Watch) -> Outcome:
    if circle.rules.synchronous and state.number:
        now = circle.line.clock.monotonic()
        held = circle.rules.longest - watch.waited(now)
        if held > 0 and not _all_took(circle, state.epoch):
            return held
    degree = len(circle.neighbourhood.up(circle.exchange))
    state = replace(state, degree=degree)
    state = replace(state, root=_offered(circle, state))
    done = circle.policy.rounds is not None and state.number >= circle.policy.rounds
    return replace(state, phase=Phase.REST if done else Phase.COLLECT)


def _all_took(circle: Circle, epoch: int) -> bool:
    """Whether every neighbour has this node's model of the epoch before: a new offer would take it away from them."""
    newest = circle.exchange.newest()
    for node in circle.neighbourhood.up(circle.exchange):
        head = newest.get(node)
        if head is None or (head.epoch < epoch and head.metrics.get(COLLECTED, -1.0) < epoch - 1):
            return False
    return True


def _offered(circle: Circle, state: RoundState, collected: bool = False) -> str:
    """Offer the trained model; its root, hexadecimal. The same model has the same root."""
    fit = {name: value for name, value in state.metrics.items() if len(name.encode()) <= METRIC_CHARACTERS}
    told = dict(sorted(fit.items())[:_OFFERED_METRICS])
    told[DEGREE] = float(state.degree)
    if collected:
        told[COLLECTED] = float(state.epoch)
    parents = [Parent(UUID(node), _root(root), weight) for node, (root, weight) in sorted(state.parents.items())]
    offer = Offer(weights=(circle.store.path(state.trained),), epoch=state.epoch, parents=tuple(parents), metrics=told)
    return circle.exchange.offer(offer).root.hex()


def _collect(circle: Circle, state: RoundState, watch: Watch) -> Outcome:
    now = circle.line.clock.monotonic()
    waited = watch.waited(now)
    neighbours = circle.neighbourhood.up(circle.exchange)
    arrived = {node: found for node, found in circle.exchange.arrived().items() if node in neighbours}
    watch.expect(neighbours, state.epoch, now - waited)
    watch.note(arrived, now)
    decision = collect(
        circle.rules,
        Standing(
            epoch=state.epoch,
            neighbours=neighbours,
            offered={node: offered(found.head) for node, found in arrived.items()},
            waited=waited,
            offsets=(*state.arrivals, *(watch.noted or ())),
            expected=state.seconds.get(Phase.TRAIN.value, 0.0),
            uptime=now - watch.began,
        ),
    )
    if not isinstance(decision, Go):
        return decision.seconds
    taken = tuple(_taken(circle, state, arrived[head.node]) for head in decision.chosen)
    heard = [head.epoch for node, head in circle.exchange.newest().items() if node in neighbours]
    state = replace(
        state,
        phase=Phase.ADMIT,
        taken=taken,
        refused=(),
        missing=tuple(node.hex for node in decision.missing),
        stale=tuple(node.hex for node in decision.stale),
        ahead=max(heard, default=state.epoch) - state.epoch,
        arrivals=(*state.arrivals, *(watch.noted or ()))[-ARRIVALS:],
    )
    watch.noted = []
    if circle.rules.synchronous:
        _offered(circle, state, collected=True)
    return state


def _taken(circle: Circle, state: RoundState, found: Arrived) -> Taken:
    """Keep the weights under a name of our own: they are needed until the commit, whatever the exchange removes."""
    head, about = found.head, offered(found.head)
    name = f"r{state.number:08d}-peer-{head.node_id.hex}.safetensors"
    circle.store.keep(found.weights, name)
    return Taken(node=head.node_id.hex, root=head.root.hex(), epoch=head.epoch, file=name, degree=about.degree)


def _admit(circle: Circle, state: RoundState, watch: Watch) -> RoundState:
    circle.exchange.release([])
    return replace(admit(circle, state), phase=Phase.MIX)


def _mix(circle: Circle, state: RoundState, watch: Watch) -> RoundState:
    after = replace(state, phase=Phase.GUARD, mixed=state.trained, kept_own=False)
    if not state.taken:
        return after
    store, name, raw = circle.store, f"r{state.number:08d}-mixed.safetensors", f"r{state.number:08d}-sum.safetensors"
    recipe = Recipe(**{**state.recipe, "coefficients": tuple(state.recipe["coefficients"])})
    others = [store.path(each.file) for each in state.taken]
    circle.models.mix(store.path(state.trained), others, recipe, store.staging(raw))
    store.install(raw)
    trainer = circle.trainer if circle.offers("calibration_batches") else None
    try:
        if trainer is not None and trainer.recalibrate(store.path(raw), store.staging(name)):
            store.install(name)
            return replace(after, mixed=name)
    except TransientError as error:
        if not is_task_failure(error):
            raise
        circle.tell("warning", f"round {state.number}: the mix is dropped: {error.message}", hint=error.hint)
        return replace(after, kept_own=True)
    return replace(after, mixed=raw)


def _guard(circle: Circle, state: RoundState, watch: Watch) -> RoundState:
    """The mix is dropped when it is worse than the own model by more than the guard allows, or cannot be judged."""
    after = replace(state, phase=Phase.COMMIT, scores={})
    if state.mixed == state.trained:
        return after
    policy, own, mixed = circle.policy, circle.store.path(state.trained), circle.store.path(state.mixed)
    scores: dict[str, dict[str, float]] = {}
    by_loss = circle.offers("loss") and circle.offers("calibration_batches")
    keep = False
    try:
        if circle.trainer is not None and circle.offers("evaluate") and policy.evaluate:
            scores = {"own": dict(circle.trainer.evaluate(own)), "mixed": dict(circle.trainer.evaluate(mixed))}
        if policy.guard is not None and circle.trainer is not None and by_loss:
            before, behind = circle.trainer.losses([own, mixed])
            keep = worse({"loss": before}, {"loss": behind}, policy.guard, loss=True)
        elif policy.guard is not None and scores:
            keep = worse(scores["own"], scores["mixed"], policy.guard, loss=False)
    except TransientError as error:
        if not is_task_failure(error):
            raise
        circle.tell("warning", f"round {state.number}: the mix was not judged: {error.message}", hint=error.hint)
        keep = policy.guard is not None
    return replace(after, scores=scores, kept_own=keep, mixed=state.trained if keep else state.mixed)


def _commit(circle: Circle, state: RoundState, watch: Watch) -> RoundState:
    return commit(circle, state)


def _rest(circle: Circle, state: RoundState, watch: Watch) -> Outcome:
    rounds = circle.policy.rounds
    if rounds is None or state.number < rounds:
        return replace(state, phase=Phase.TRAIN)  # more were asked for since
    return circle.rules.longest


def _tidy(circle: Circle, state: RoundState) -> None:
    """A failure costs space until the next phase, never the outcome."""
    names = {state.start, state.trained, state.mixed, *(each.file for each in state.taken)} - {""}
    try:
        circle.store.tidy(sorted(names))
    except TransientError as error:
        circle.tell("warning", f"removed at the next chance: {error.message}", hint=error.hint)


def _root(text: str) -> Root:
    try:
        return Root(bytes.fromhex(text))
    except ValueError as error:
        raise FatalError(f"the round's state names the root {text!r}, which is none") from error
