"""What the operator asked for: ``mergenode ingest PATH`` leaves a request file, the node folds the path now.

A request is one small file in ``state/requests``, written atomically, removed once its outcome is durable.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.durable import disk_errors, replace_file, sync_directory
from mergenode.adapters.registries import names
from mergenode.adapters.registries.entry import EntryReader
from mergenode.errors import RejectReason, TransientError, TransientReason, UsageError
from mergenode.ports.clock import Clock
from mergenode.types import Candidate, Listing, Refused

REGISTRY = "ingest"
REQUESTS = "requests"
_SUFFIX = ".json"
_REQUEST_BYTES = 64 << 10
_KEYS = frozenset({"path", "registry", "time"})
_REFUSED_SECONDS = 600.0
"""How long a refused request stays listed: long enough that its fact is durable after any failed attempt."""


@dataclass(frozen=True, slots=True)
class _Request:
    file: str
    path: Path
    registry: str | None


def requests_directory(state: Path) -> Path:
    """Where the request files of a state directory lie."""
    return state / REQUESTS


def submit_request(state: Path, path: Path, *, registry: str | None = None, clock: Clock | None = None) -> Path:
    """Ask the node of a state directory to fold ``path`` now; returns the request file.

    Durability: the request survives a power loss from the return on. Idempotence: asking twice folds once.

    Raises:
        UsageError: the path does not exist, is no directory or file, or has a name that cannot be stored.
        TransientError: DISK_FULL or WRITE_FAILED.
    """
    absolute = Path(os.path.abspath(path))
    if not names.is_plain(absolute.name) or not str(absolute).isprintable():
        raise UsageError(f"{names.printable(str(path))}: the path holds characters that cannot be stored or shown")
    if not (absolute.is_dir() or absolute.is_file()):
        raise UsageError(
            f"{absolute}: no such directory or file", hint="Name a checkpoint directory or .safetensors file."
        )
    document = {"path": str(absolute), "time": (clock or SystemClock()).now()}
    if registry is not None:
        document["registry"] = registry
    directory = requests_directory(state)
    order = int((clock or SystemClock()).unix() * 1e6)
    target = directory / f"{order:020d}-{secrets.token_hex(4)}{_SUFFIX}"
    with disk_errors(target):
        directory.mkdir(parents=True, exist_ok=True)
        replace_file(target, json.dumps(document).encode() + b"\n")
    return target


class RequestsRegistry:
    """The requests of one state directory as forced candidates, oldest request first.

    A path directly inside a configured registry is offered under that registry's name, so that it is the same
    contribution whichever way it is found.

    Args:
        state: the node's state directory; ``requests`` inside it is created.
        roots: root directories of the configured folder registries by name.
    """

    def __init__(self, state: Path, *, roots: Mapping[str, Path], clock: Clock, limits: Limits | None = None) -> None:
        self._directory = requests_directory(state)
        self._roots = roots
        self._clock = clock
        self._limits = limits or Limits()
        self._files: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self._refused_at: dict[str, float] = {}
        with disk_errors(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        return REGISTRY

    def list(self) -> Listing:
        """Every request as a candidate, or refused with the reason.

        Raises:
            TransientError: REGISTRY_UNREACHABLE when the directory of requests cannot be read.
        """
        candidates: dict[tuple[str, str, str], Candidate] = {}
        refused: dict[str, Refused] = {}
        files: dict[tuple[str, str, str], tuple[str, ...]] = {}
        for file in self._request_files():
            answer = self._answer(file)
            if isinstance(answer, Candidate):
                candidates[answer.key] = answer
                files[answer.key] = (*files.get(answer.key, ()), file)
            elif answer is not None:
                refused[file] = answer
        self._files = files
        self._drop_old_refusals(refused)
        return Listing(candidates=tuple(candidates.values()), refused=tuple(refused.values()))

    def settled(self, candidate: Candidate) -> None:
        """Remove the requests that asked for this candidate, also under the name of another registry.

        Durability: removed for good on return. Idempotence: nothing happens the second time.
        """
        for file in self._files.pop(candidate.key, ()):
            self._remove(file)

    def close(self) -> None:
        """Nothing is held open."""

    def _request_files(self) -> tuple[str, ...]:
        try:
            found = sorted(os.listdir(self._directory))
        except OSError as error:
            raise TransientError(
                TransientReason.REGISTRY_UNREACHABLE,
                f"{self._directory}: {error.strerror}",
                hint="Check that the state directory is mounted and readable.",
            ) from error
        return tuple(name for name in found if name.endswith(_SUFFIX) and not names.is_in_progress(name))

    def _answer(self, file: str) -> Candidate | Refused | None:
        try:
            request = _parse(file, self._content(file))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            message = f"request {names.printable(file)} cannot be read: {names.printable(str(error))[:200]}"
            return Refused(REGISTRY, names.printable(file), file, RejectReason.PATH_UNSAFE, message, "Ask again.")
        return self._candidate(request)

    def _content(self, file: str) -> bytes:
        fd = os.open(self._directory / file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("not a regular file")
            return stream.read(_REQUEST_BYTES + 1)

    def _candidate(self, request: _Request) -> Candidate | Refused:
        registry = self._registry_of(request)
        path = Path(os.path.realpath(request.path))
        try:
            entry = EntryReader(trusted_root(path), self._limits).read(path, request.path.name)
        except OSError as error:
            return self._refuse(request, RejectReason.NO_WEIGHTS, f"{request.path}: {error.strerror}")
        if entry is None:
            return self._refuse(
                request, RejectReason.NO_WEIGHTS, f"{request.path}: nothing in it looks like a checkpoint"
            )
        problem = entry.problem
        if problem is not None:
            return self._refuse(request, problem.reason, problem.message, problem.hint)
        return entry.candidate(registry, attested=True, forced=True)

    def _registry_of(self, request: _Request) -> str:
        if request.registry in self._roots:
            return request.registry or REGISTRY
        parent = os.path.realpath(request.path.parent)
        return next((name for name, root in self._roots.items() if os.path.realpath(root) == parent), REGISTRY)

    def _refuse(self, request: _Request, reason: RejectReason, message: str, hint: str = "") -> Refused:
        shown = names.printable(message)
        return Refused(
            REGISTRY, request.path.name, request.file, reason, shown, hint or "Ask again with the right path."
        )

    def _drop_old_refusals(self, refused: Mapping[str, Refused]) -> None:
        now = self._clock.monotonic()
        self._refused_at = {file: self._refused_at.get(file, now) for file in refused}
        for file, since in self._refused_at.items():
            if now - since >= _REFUSED_SECONDS:
                self._remove(file)

    def _remove(self, file: str) -> None:
        with disk_errors(self._directory):
            (self._directory / file).unlink(missing_ok=True)
            sync_directory(self._directory)


def _parse(file: str, data: bytes) -> _Request:
    """Raises ValueError when the bytes are not a request."""
    if len(data) > _REQUEST_BYTES:
        raise ValueError(f"more than {_REQUEST_BYTES} bytes")
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict) or not {"path"} <= document.keys() <= _KEYS:
        raise ValueError("not an object with 'path' and at most 'registry' and 'time'")
    path, registry = document["path"], document.get("registry")
    if not isinstance(path, str) or not path.startswith("/") or not path.isprintable():
        raise ValueError("'path' is not an absolute path")
    if registry is not None and not isinstance(registry, str):
        raise ValueError("'registry' is not a name")
    return _Request(file, Path(path), registry)
