"""The committed code is what the compiler makes of the proto files, and old peers still understand it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from mergenode.wire.v1 import admin_pb2, blobs_pb2, intake_pb2, objects_pb2, peer_pb2
from tests.support.generated_wire import PACKAGE, PROTO, generate

GOLDEN = Path(__file__).parents[1] / "golden/wire.txt"
FILES = [module.DESCRIPTOR for module in (admin_pb2, blobs_pb2, intake_pb2, objects_pb2, peer_pb2)]
TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in vars(FieldDescriptor)
    if name.startswith("TYPE_")
}


def test_generated_code_is_up_to_date() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed; CI has it")
    committed = {path.name: path.read_text() for path in PACKAGE.glob("*_pb2*")}
    assert generate() == committed, "python -m tests.support.generated_wire"


def test_every_proto_file_is_looked_at() -> None:
    assert {file.name for file in FILES} == {path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto")}


def test_the_protocol_is_the_golden_one() -> None:
    """A line may be added on purpose. A line that changes or goes breaks nodes that are running: reserve instead."""
    assert sorted(lines()) == GOLDEN.read_text().splitlines()


def test_numbers_are_never_used_twice() -> None:
    for file in FILES:
        assert descriptor_pool.Default().FindFileByName(file.name) is file
        for message in file.message_types_by_name.values():
            numbers = [field.number for field in message.fields]
            assert len(set(numbers)) == len(numbers)


def lines() -> Iterator[str]:
    """One line per field, enum value and method: everything that bytes on the wire depend on."""
    for file in FILES:
        for message in file.message_types_by_name.values():
            yield from _message(message)
        for enum in file.enum_types_by_name.values():
            yield from _enum(enum)
        yield from _services(file)


def _message(message: Descriptor) -> Iterator[str]:
    for field in message.fields:
        of = field.message_type or field.enum_type
        kind = TYPES[field.type] if of is None else of.full_name
        label = "repeated " if field.is_repeated else "optional " if field.has_presence and of is None else ""
        yield f"{field.full_name} = {field.number}: {label}{kind}"
    for nested in message.nested_types:
        yield from _message(nested)
    for enum in message.enum_types:
        yield from _enum(enum)


def _enum(enum: EnumDescriptor) -> Iterator[str]:
    return (f"{enum.full_name}.{value.name} = {value.number}" for value in enum.values)


def _services(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name.values():
        for method in service.methods:
            up, down = ("stream " * streams for streams in (method.client_streaming, method.server_streaming))
            yield f"{method.full_name}({up}{method.input_type.name}) returns ({down}{method.output_type.name})"
