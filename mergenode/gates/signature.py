"""Somebody whom the operator trusts signed exactly these files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mergenode.gates.contract import Finding, Gate, failed, passed, silent
from mergenode.gates.evidence import Evidence, Need, SignatureStatus
from mergenode.gates.reasons import GateReason


def signature(*, keys: Mapping[str, Sequence[str]] | None = None) -> Gate:
    """A contribution of a registry with trusted keys bears a valid signature by one of them.

    Args:
        keys: trusted public keys by name of registry, ``*`` for all others. Contributions of registries that nobody
            named are not judged. The gate itself never looks at them: the signature was checked when it was measured.
    """
    trusted = {registry: tuple(names) for registry, names in (keys or {}).items()}

    def judge(evidence: Evidence) -> Finding:
        found = evidence.signature
        if found is None:
            return silent("signature", "no trusted keys are set for its registry")
        if found.status is SignatureStatus.VALID:
            return passed("signature", {}, f"signed by {found.key}")
        reason, what, hint = _FAULTS[found.status]
        detail = f": {found.detail}" if found.detail else ""
        key = f" by {found.key}" if found.key else ""
        return failed("signature", reason, f"{what}{key} (registry {found.registry!r}){detail}", hint, {})

    return Gate(
        name="signature",
        needs=frozenset({Need.SIGNATURE}) if trusted else frozenset(),
        judge=judge,
        options={"keys": trusted},
    )


def trusted_for(gates: Iterable[Gate], registry: str) -> tuple[str, ...]:
    """The keys that are trusted for contributions of a registry; empty: their signatures are not looked at."""
    for gate in gates:
        keys = gate.options.get("keys") if gate.name == "signature" else None
        if isinstance(keys, Mapping):
            return tuple(keys.get(registry, keys.get("*", ())))
    return ()


_FAULTS = {
    SignatureStatus.MISSING: (
        GateReason.SIGNATURE_MISSING,
        "it bears no signature",
        "Sign it with `mergenode sign MODEL --key FILE` and push it again.",
    ),
    SignatureStatus.INVALID: (
        GateReason.SIGNATURE_INVALID,
        "its signature does not hold",
        "Its files are not those that were signed: find out who changed them, or sign and push again.",
    ),
    SignatureStatus.UNTRUSTED: (
        GateReason.SIGNATURE_UNTRUSTED,
        "it is signed with a key that is not trusted",
        "Add the key to gates.signature.keys of this registry if you trust whoever holds it.",
    ),
}
