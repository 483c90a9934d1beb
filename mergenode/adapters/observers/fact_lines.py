"""Every fact in one sentence."""

from __future__ import annotations

from functools import singledispatch

from mergenode.ledger.records import (
    Admitted,
    Deferred,
    Deselected,
    Discovered,
    Duplicate,
    Fact,
    Folded,
    Forgotten,
    Heard,
    Initialised,
    Mixed,
    Pruned,
    Published,
    Quarantined,
    Rejected,
    Released,
    Restated,
    Retracted,
    Ruled,
    Scored,
    Selected,
    United,
    Yielded,
)

Line = tuple[str, str, dict[str, object]]
"""Level, sentence, fields."""


@singledispatch
def describe(fact: Fact) -> Line:
    """Level, sentence and fields of one fact; a kind without a sentence of its own is told by its name."""
    return "info", fact.kind, {}


@describe.register
def _(fact: Folded) -> Line:
    whole = next((group for group in fact.groups if group.get("group") == "*"), {})
    share = whole.get("share_kept")
    text = f"folded {fact.name!r} as number {fact.count}"
    if share is not None:
        text += f", {float(share):.1%} of it kept"
    if fact.weighing:
        text += f", with weight {fact.weight:.4g}"
    if fact.protection.get("share"):
        text += f", {float(fact.protection['share']):.1%} of it vetoed"
    for warning in fact.warnings:
        text += f"; {warning}"
    fields: dict[str, object] = {
        "registry": fact.registry, "name": fact.name, "revision": fact.revision, "content": fact.content,
        "generation": fact.generation, "norm": fact.norm, "relative_norm": fact.relative_norm,
        "seconds": fact.seconds, "bytes_read": fact.bytes_read, "bytes_written": fact.bytes_written,
    }  # fmt: skip
    return "info", text, fields


@describe.register
def _(fact: Rejected) -> Line:
    text = f"rejected {fact.name!r}: {fact.message}" + (f" ({fact.hint})" if fact.hint else "")
    fields = {"registry": fact.registry, "name": fact.name, "revision": fact.revision, "reason": fact.reason}
    return "warning", text, dict(fields)


@describe.register
def _(fact: Quarantined) -> Line:
    text = f"quarantined {fact.name!r} by gate {fact.gate}: {fact.message}" + (f" ({fact.hint})" if fact.hint else "")
    fields = {"registry": fact.registry, "name": fact.name, "revision": fact.revision, "content": fact.content}
    return "warning", text, {**fields, "gate": fact.gate, "reason": fact.reason}


@describe.register
def _(fact: Released) -> Line:
    by = f" by {fact.who}" if fact.who else ""
    text = f"released {fact.name!r} from quarantine{by}" + (f": {fact.why}" if fact.why else "")
    return "warning", text, {"registry": fact.registry, "name": fact.name, "content": fact.content, "who": fact.who}


@describe.register
def _(fact: Duplicate) -> Line:
    text = f"{fact.name!r} is already in the merge as {fact.same_as!r}"
    return "info", text, {"registry": fact.registry, "name": fact.name, "content": fact.content}


@describe.register
def _(fact: Discovered) -> Line:
    fields = {"registry": fact.registry, "name": fact.name, "revision": fact.revision}
    return "info", f"found {fact.name!r}", {**fields, "size_bytes": fact.size_bytes}


@describe.register
def _(fact: Published) -> Line:
    fields = {"version": fact.version, "generation": fact.generation, "digest": fact.digest}
    text = f"version {fact.version} is visible at {fact.path}"
    return "info", text, {**fields, "seconds": fact.seconds}


@describe.register
def _(fact: Pruned) -> Line:
    versions = ", ".join(str(version) for version in fact.versions)
    return "info", f"removed the files of versions {versions}", {"versions": fact.versions}


@describe.register
def _(fact: Initialised) -> Line:
    text = f"new state for base {fact.base} with method {fact.method}"
    return "info", text, {"ledger_id": fact.ledger_id, "base": fact.base, "method": fact.method}


@describe.register
def _(fact: Retracted) -> Line:
    text = f"retracted {fact.name!r}" + (f": {fact.why}" if fact.why else "")
    return "warning", text, {"registry": fact.registry, "name": fact.name, "content": fact.content}


@describe.register
def _(fact: Restated) -> Line:
    text = f"the merge holds {fact.count} contributions now, {fact.how}"
    if fact.rollback_to is not None:
        text = f"rolled back to version {fact.rollback_to}: {text}"
    fields = {"generation": fact.generation, "lineage": fact.lineage, "seconds": fact.seconds}
    return "info", text, dict(fields)


@describe.register
def _(fact: United) -> Line:
    text = f"the union of {len(fact.parts)} nodes holds {fact.count} contributions now"
    return "info", text, {"generation": fact.generation, "lineage": fact.lineage, "seconds": fact.seconds}


@describe.register
def _(fact: Heard) -> Line:
    text = f"heard of node {fact.name}: {fact.count} contributions"
    return "info", text, {"node": fact.name, "incarnation": fact.incarnation, "seq": fact.seq, "count": fact.count}


@describe.register
def _(fact: Ruled) -> Line:
    what = "is taken out of the union" if fact.number % 2 else "may be in the union again"
    text = f"content {fact.content[:19]} {what}, says node {fact.node}" + (f": {fact.why}" if fact.why else "")
    return "warning" if fact.number % 2 else "info", text, {"content": fact.content, "node": fact.node}


@describe.register
def _(fact: Forgotten) -> Line:
    text = f"node {fact.node} is forgotten" + (f": {fact.why}" if fact.why else "")
    return "warning", text, {"node": fact.node, "incarnation": fact.incarnation}


@describe.register
def _(fact: Yielded) -> Line:
    text = f"{fact.name!r} counts by node {fact.keeper}, it left this node's merge"
    return "info", text, {"registry": fact.registry, "name": fact.name, "content": fact.content, "node": fact.keeper}


@describe.register
def _(fact: Deferred) -> Line:
    text = f"{fact.name!r} counts by node {fact.keeper} already"
    return "info", text, {"registry": fact.registry, "name": fact.name, "content": fact.content, "node": fact.keeper}


@describe.register
def _(fact: Admitted) -> Line:
    text = f"took in {fact.name!r} from the statistics of another node"
    return "info", text, {"registry": fact.registry, "name": fact.name, "origin": fact.origin, "content": fact.content}


@describe.register
def _(fact: Mixed) -> Line:
    text = f"round {fact.number} (epoch {fact.epoch}): own model and {len(fact.parents)} others"
    text += f", {len(fact.refused)} refused" if fact.refused else ""
    text += "; the mix was worse than the own model, which stays" if fact.kept_own else ""
    text += f"; training failed: {fact.training_failed}" if fact.training_failed else ""
    fields: dict[str, object] = {
        "number": fact.number, "epoch": fact.epoch, "own_weight": fact.own_weight, "missing": fact.missing,
        "stale": fact.stale, "ahead": fact.ahead, "spread": fact.spread, "content": fact.content,
        "seconds": sum(fact.seconds.values()), **{f"scores_{name}": value for name, value in fact.scores.items()},
    }  # fmt: skip
    return "warning" if fact.refused or fact.kept_own or fact.training_failed else "info", text, fields


@describe.register
def _(fact: Scored) -> Line:
    scores = ", ".join(f"{task} {score:.4g}" for task, score in sorted(fact.scores.items()))
    return "info", f"v{fact.version:06d} scores {scores}", {"generation": fact.generation, "seconds": fact.seconds}


@describe.register
def _(fact: Selected) -> Line:
    text = f"selected {len(fact.target)} of {fact.size} contributions: loss {fact.loss:.6g}, gap {fact.gap:.3g}"
    fields: dict[str, object] = {
        "rounds": fact.rounds, "stopped": fact.stopped, "loss": fact.loss, "gap": fact.gap, "pool": fact.size,
        "chosen": len(fact.target), "seconds": fact.seconds,
    }  # fmt: skip
    return "info", text, fields


@describe.register
def _(fact: Deselected) -> Line:
    text = f"{fact.name!r} leaves with weight {fact.weight:.4g}: it is weighed otherwise now"
    return "info", text, {"registry": fact.registry, "name": fact.name, "content": fact.content}
