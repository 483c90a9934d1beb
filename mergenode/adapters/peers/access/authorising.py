"""One gate for every call: who calls, whether they may, and only then what they sent is looked at.

A call that is not in the table is refused, whatever is registered. So a new call is closed until somebody decides who
may make it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from mergenode.adapters.peers.access.callers import Caller, Callers, Role, UnknownCallerError, announce
from mergenode.adapters.peers.port.draining import Draining
from mergenode.adapters.peers.port.refusals import abort, refusal
from mergenode.tracing.context import called_from, read_traceparent
from mergenode.wire.v1.objects_pb2 import Refusal

Context = grpc.aio.ServicerContext[Any, Any]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # at run time not generic

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
HEALTH = "grpc.health.v1.Health"


CONTROL_BYTES = 64 << 10
TRANSFER_BYTES = (1 << 20) + (64 << 10)


@dataclass(frozen=True, slots=True)
class Rule:
    """``roles``: one of them is enough to call; none named: whoever is recognised at all. ``transfer``: refused while
    draining.

    A request is at most 64 KiB, one of a transfer a piece of weights and what goes with it. Many small parts in one
    message take fifty times its size once it is read.
    """

    roles: tuple[Role, ...]
    transfer: bool = False

    @property
    def most_bytes(self) -> int:
        """Largest single request message."""
        return TRANSFER_BYTES if self.transfer else CONTROL_BYTES


_PUSHERS = (Role.PUSHER, Role.PEER)
"""Nodes forward contributions; they can influence each other's merges anyway."""

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "/mergenode.v1.Peer/Hello": Rule((Role.PEER,)),
        "/mergenode.v1.Peer/Exchange": Rule((Role.PEER,)),
        "/mergenode.v1.Peer/GetHeads": Rule((Role.PEER,)),
        "/mergenode.v1.Peer/WatchHeads": Rule((Role.PEER,)),
        "/mergenode.v1.Blobs/GetManifest": Rule((Role.PEER,), transfer=True),
        "/mergenode.v1.Blobs/Fetch": Rule((Role.PEER,), transfer=True),
        "/mergenode.v1.Intake/Begin": Rule(_PUSHERS, transfer=True),
        "/mergenode.v1.Intake/Missing": Rule(_PUSHERS, transfer=True),
        "/mergenode.v1.Intake/Put": Rule(_PUSHERS, transfer=True),
        "/mergenode.v1.Intake/Commit": Rule(_PUSHERS),
        "/mergenode.v1.Admin/Drain": Rule((Role.ADMIN,)),
        "/mergenode.v1.Admin/SetTopology": Rule((Role.ADMIN,)),
        "/mergenode.v1.Admin/Ban": Rule((Role.ADMIN,)),
        "/mergenode.v1.Admin/GetState": Rule((Role.ADMIN,)),
        f"/{HEALTH}/Check": Rule(()),
        f"/{HEALTH}/Watch": Rule(()),
        f"/{REFLECTION}/ServerReflectionInfo": Rule((Role.ADMIN,)),
    }
)
"""Health says no more than that a node is up, to whoever was recognised; without TLS everybody has every role."""

_UNAUTHENTICATED = (
    "no credentials that this node accepts",
    "Use a certificate that its authority signed, or a token for it that has not expired.",
)
_DRAINING_SECONDS = 30.0


class InternalFaultError(Exception):
    """A defect met while answering. Callers see no more than this text; the log has the cause."""


def _ignore(*_: object) -> None:
    """For those who do not want to be told."""


@dataclass(frozen=True)
class Authoriser(grpc.aio.ServerInterceptor):
    """The gate. Both callbacks are called on the server's loop and must be cheap.

    ``refused(method, why)``: a call was not let in. ``method`` is from the table, or ``unknown``; ``why`` a fault of
    tokens, ``no_credentials``, ``token_not_taken``, ``role`` or ``unknown_method``. ``answered(method, code,
    seconds)``: a call from the table is over, with this name of a grpc status.
    """

    callers: Callers
    draining: Draining
    refused: Callable[[str, str], None] = _ignore
    answered: Callable[[str, str, float], None] = _ignore
    rules: Mapping[str, Rule] = field(default_factory=lambda: RULES)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        rule, handler = self.rules.get(method), await continuation(handler_call_details)
        if rule is None or handler is None:
            self.refused("unknown", "unknown_method")
            return grpc.stream_stream_rpc_method_handler(_unknown)
        return _gated(handler, _Gate(self, method, rule))


@dataclass(frozen=True, slots=True)
class _Gate:
    owner: Authoriser
    method: str
    rule: Rule

    async def enter(self, context: Context) -> None:
        """Return when the caller may go on; the call is over otherwise."""
        begun = time.monotonic()
        _at_end(context, lambda: self._answered(context, time.monotonic() - begun))
        caller = await self._recognised(context)
        roles = self.rule.roles
        if roles and caller.roles.isdisjoint(roles):
            self.owner.refused(self.method, "role")
            needed = " or ".join(role.value for role in roles)
            text = f"{caller.name} has not the role {needed}, which {self.method.strip('/')} needs"
            hint = f"Add a pattern for that name to peers.roles.{roles[0].value} of the node, or use other credentials."
            await abort(context, refusal(Refusal.CODE_NOT_ALLOWED, text, hint))
        if self.rule.transfer:
            await self._count(context)
        announce(caller)
        called_from(read_traceparent(context.invocation_metadata() or ()))

    async def _recognised(self, context: Context) -> Caller:
        try:
            return self.owner.callers.recognise(context)
        except UnknownCallerError as error:
            self.owner.refused(self.method, error.fault.value)
        refused = refusal(Refusal.CODE_NOT_ALLOWED, *_UNAUTHENTICATED)
        return await abort(context, refused, grpc.StatusCode.UNAUTHENTICATED)

    async def _count(self, context: Context) -> None:
        if not self.owner.draining.enter():
            text = "this node takes no new transfers: it is about to stop"
            await abort(context, refusal(Refusal.CODE_DRAINING, text, retry_after=_DRAINING_SECONDS))
        _at_end(context, self.owner.draining.leave)

    def _answered(self, context: Context, seconds: float) -> None:
        code = context.code() or grpc.StatusCode.OK
        name = code.name if isinstance(code, grpc.StatusCode) else str(code)
        self.owner.answered(self.method, name if context.done() else grpc.StatusCode.CANCELLED.name, seconds)


def _at_end(context: Context, do: Callable[[], None]) -> None:
    """However the call ends; a generator's own clean-up may come later than that."""
    context.add_done_callback(lambda _: do())  # type: ignore[arg-type]  # the stub's type is no protocol


def _gated(handler: Handler, gate: _Gate) -> Handler:
    """The same call behind the gate. Requests arrive as bytes and are read once the caller is known."""
    kinds: Mapping[tuple[bool, bool], tuple[Any, Any]] = {
        (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
        (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
        (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
    }
    inner, make = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    read = handler.request_deserializer

    async def behave(request: Any, context: Context) -> Any:
        await gate.enter(context)
        with _defects(context):
            if handler.request_streaming:
                asked = _each(request, read, gate.rule, context)
            else:
                asked = await _decoded(request, read, gate.rule, context)
            if handler.response_streaming and not iscoroutinefunction(inner):
                return await _written(inner(asked, context), context)
            return await inner(asked, context)

    return make(behave, None, handler.response_serializer)  # type: ignore[no-any-return]  # grpc ships no types for the makers in the table above


async def _written(answers: AsyncGenerator[Any, None], context: Context) -> None:
    """Send what a handler yields. However the call ends, the handler's own clean-up is done before it is over."""
    try:
        async for answer in answers:
            await context.write(answer)
    finally:
        await answers.aclose()


@contextmanager
def _defects(context: Context) -> Iterator[None]:
    """Callers are not told what went wrong inside this node; its log is."""
    try:
        yield
    except grpc.aio.BaseError:
        raise  # the call was aborted, or is over
    except Exception as error:  # whatever a handler raises: its caller learns nothing of this node's insides
        context.set_code(grpc.StatusCode.INTERNAL)
        raise InternalFaultError("the node met a defect; its log has more") from error


async def _each(requests: AsyncIterable[bytes], read: Any, rule: Rule, context: Context) -> AsyncIterator[Any]:
    async for request in requests:
        yield await _decoded(request, read, rule, context)


async def _decoded(request: bytes, read: Any, rule: Rule, context: Context) -> Any:
    if len(request) > rule.most_bytes:
        text = f"a request of {len(request)} bytes; this call takes {rule.most_bytes}"
        return await abort(context, refusal(Refusal.CODE_TOO_LARGE, text))
    try:
        return request if read is None else read(request)
    except (DecodeError, ValueError):
        return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is no message of this call")


async def _unknown(_: object, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this node has no such call")
