"""What a pusher asks for, checked before anything of it is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import grpc
from blake3 import blake3

from mergenode.adapters.checkpoints.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.registries import names
from mergenode.adapters.registries.marker import SCHEMA, Marker, parse_marker
from mergenode.errors import RejectedError
from mergenode.tracing.ids import push_trace
from mergenode.wire.blocks import ID_BYTES, Root
from mergenode.wire.v1.intake_pb2 import BeginRequest
from mergenode.wire.v1.objects_pb2 import Refusal

SMALL_FILES = frozenset({
    "config.json", "adapter_config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "preprocessor_config.json",
    "mergenode.sig.json",
})  # fmt: skip
"""The files that may come beside the weights: data in JSON or plain text, never code, templates or pickles."""
SMALL_FILES_BYTES = 64 << 10
WEIGHTS_NAME = "model.safetensors"

_DROPPED_SUFFIX = ".md"
_NAME_BYTES = 128
_KEY_CHARACTERS = 256
_ID_BYTES = 16
_MARKER_NAME = "push"


@dataclass(frozen=True, slots=True)
class Terms:
    """An upload as its pusher described it. ``owner``: by certificate or token, never by the message."""

    owner: str
    lineage: str
    name: str
    root: Root
    manifest_bytes: int
    weight_bytes: int
    key: str
    marker: Marker
    """Weight, base and profile, in the form in which the registry reads them."""
    adapter_config: bytes = b""

    @property
    def id(self) -> bytes:
        """Equal for the same content from the same pusher: that is one upload, however often it is begun."""
        hasher = blake3(derive_key_context="mergenode push 1 upload")
        for part in (self.owner.encode(), self.root, self.adapter_config):
            hasher.update(len(part).to_bytes(8, "little") + part)
        return hasher.digest(_ID_BYTES)

    @property
    def trace_id(self) -> str:
        """Derived here, as the pusher derives it: what he says of it counts for nothing."""
        return push_trace(self.name, self.root.hex())

    @property
    def weights_name(self) -> str:
        """The file that the weights become."""
        return ADAPTER_WEIGHTS if self.adapter_config else WEIGHTS_NAME

    def document(self) -> dict[str, Any]:
        """As JSON; ``terms_in`` reads it."""
        marker = {"weight": self.marker.weight, "base": self.marker.base, "profile": dict(self.marker.profile)}
        plain = {"root": self.root.hex(), "adapter_config": self.adapter_config.hex()}
        return {name: value for name, value in asdict(self).items() if name != "marker"} | plain | marker


def terms_in(document: Mapping[str, Any]) -> Terms:
    """The terms that ``Terms.document`` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    marker = _marker(document["weight"], document["base"] or "", document["profile"])
    return Terms(
        owner=str(document["owner"]),
        lineage=str(document["lineage"]),
        name=str(document["name"]),
        root=Root(bytes.fromhex(document["root"])),
        manifest_bytes=int(document["manifest_bytes"]),
        weight_bytes=int(document["weight_bytes"]),
        key=str(document["key"]),
        marker=marker,
        adapter_config=bytes.fromhex(document["adapter_config"]),
    )


def terms_of(owner: str, lineage: str, request: BeginRequest) -> tuple[Terms, dict[str, bytes]]:
    """The terms of a request to the node of this ``lineage``, and the small files that are kept of it.

    Raises RefusedError for a name that no file system should see, another lineage, files that nobody needs, numbers
    that are none.
    """
    if request.lineage != lineage:
        raise RefusedError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the lineage {_shown(request.lineage)} is not taken here, {lineage!r} is",
            code=Refusal.CODE_NOT_ALLOWED,
            hint="Name the lineage of the node with --lineage; its peers.lineage says it.",
        )
    files = _files(request.files)
    if len(request.root) != ID_BYTES or not request.weight_bytes or not request.manifest_bytes:
        raise invalid("there is no root of 32 bytes, or a size of zero", "Push a model that has weights.")
    if len(request.idempotency_key) > _KEY_CHARACTERS or not (request.idempotency_key or "-").isprintable():
        raise invalid(f"the idempotency key is not at most {_KEY_CHARACTERS} printable characters")
    try:
        weight = request.weight if request.HasField("weight") else 1.0
        marker = _marker(weight, request.base, dict(request.profile))
    except RejectedError as error:
        raise invalid(error.message, "Check --weight, --profile and --base.") from error
    terms = Terms(
        owner=owner,
        lineage=lineage,
        name=_name(request.name),
        root=Root(bytes(request.root)),
        manifest_bytes=request.manifest_bytes,
        weight_bytes=request.weight_bytes,
        key=request.idempotency_key,
        marker=marker,
        adapter_config=files.get(ADAPTER_CONFIG, b""),
    )
    return terms, files


def invalid(message: str, hint: str = "") -> RefusedError:
    """What no well-meaning client sends."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message, hint=hint)


def _name(name: str) -> str:
    """A name that can be a directory and a line in a log."""
    good = names.is_plain(name) and not names.is_in_progress(name) and name.strip() == name
    if not good or len(name.encode()) > _NAME_BYTES or name in names.SYSTEM_DIRECTORIES:
        raise invalid(
            f"the name {_shown(name)} cannot be used",
            f"At most {_NAME_BYTES} printable characters, no slashes, not hidden, no suffix of unfinished files.",
        )
    return name


def _files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    kept: dict[str, bytes] = {}
    if sum(map(len, files.values())) > SMALL_FILES_BYTES:
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the files beside the weights have more than {SMALL_FILES_BYTES} bytes",
            code=Refusal.CODE_TOO_LARGE,
            hint="Only configuration is needed: leave vocabularies out.",
        )
    for name, content in files.items():
        if name in SMALL_FILES:
            kept[name] = content
        elif not (names.is_plain(name) and name.lower().endswith(_DROPPED_SUFFIX)):
            raise invalid(f"a file {_shown(name)} is not taken", f"Beside weights: {', '.join(sorted(SMALL_FILES))}.")
    return kept


def _marker(weight: float, base: str, profile: Mapping[str, float]) -> Marker:
    """By the rules of commit markers. Raises RejectedError (MARKER_INVALID)."""
    document: dict[str, object] = {"schema": SCHEMA, "weight": weight, "profile": dict(profile)}
    document["files"] = {WEIGHTS_NAME: {"size": 0}}
    if base:
        document["base"] = base
    return parse_marker(json.dumps(document).encode(), file=_MARKER_NAME)


def _shown(text: str) -> str:
    return repr(names.printable(text[:80]))
