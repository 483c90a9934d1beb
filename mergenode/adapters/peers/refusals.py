"""Refusals in the details of a gRPC status, as every gRPC library reads them (``google.rpc.Status``)."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from mergenode.wire.v1 import objects_pb2

DETAILS = "grpc-status-details-bin"
_MOST_BYTES = 16 << 10
Code = objects_pb2.Refusal.Code


def _status_class() -> Any:
    """The message ``google.rpc.Status``, in a pool of its own; the package that brings it is not needed else."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="status.proto", package="google.rpc", syntax="proto3")
    file.dependency.append(any_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="Status")
    message.field.add(name="code", number=1, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    message.field.add(name="message", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    details = message.field.add(name="details", number=3, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED)
    details.type_name = ".google.protobuf.Any"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))


_Status = _status_class()


def refusal_metadata(status: grpc.StatusCode, refusal: objects_pb2.Refusal) -> tuple[str, bytes]:
    """The trailing metadata that carries ``refusal`` beside ``status``."""
    message = _Status(code=status.value[0], message=refusal.message)
    message.details.add().Pack(refusal)
    return DETAILS, message.SerializeToString()


def refusal_of(error: grpc.RpcError) -> objects_pb2.Refusal | None:
    """What a failed call says in its details; None: nothing that can be read."""
    trailing: Any = error.trailing_metadata() if isinstance(error, grpc.Call) else None
    for key, value in trailing or ():
        if key == DETAILS and isinstance(value, bytes) and len(value) <= _MOST_BYTES:
            return _parsed(value)
    return None


def _parsed(data: bytes) -> objects_pb2.Refusal | None:
    refusal = objects_pb2.Refusal()
    try:
        for detail in _Status.FromString(data).details:
            if detail.type_url.rpartition("/")[2] == objects_pb2.Refusal.DESCRIPTOR.full_name:
                refusal.ParseFromString(detail.value)
                return refusal
    except DecodeError:
        pass
    return None
