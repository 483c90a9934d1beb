from mergenode.wire.v1 import objects_pb2 as _objects_pb2
from mergenode.wire.v1 import peer_pb2 as _peer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DrainRequest(_message.Message):
    __slots__ = ("grace_ms",)
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    grace_ms: int
    def __init__(self, grace_ms: _Optional[int] = ...) -> None: ...

class DrainReply(_message.Message):
    __slots__ = ("transfers",)
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    transfers: int
    def __init__(self, transfers: _Optional[int] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("node_id", "address")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node_id: bytes
    address: str
    def __init__(self, node_id: _Optional[bytes] = ..., address: _Optional[str] = ...) -> None: ...

class SetTopologyRequest(_message.Message):
    __slots__ = ("neighbours", "expected_generation")
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    neighbours: _containers.RepeatedCompositeFieldContainer[Neighbour]
    expected_generation: int
    def __init__(self, neighbours: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ..., expected_generation: _Optional[int] = ...) -> None: ...

class SetTopologyReply(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: int
    def __init__(self, generation: _Optional[int] = ...) -> None: ...

class BanRequest(_message.Message):
    __slots__ = ("node_id", "duration_ms", "reason", "lift")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LIFT_FIELD_NUMBER: _ClassVar[int]
    node_id: bytes
    duration_ms: int
    reason: str
    lift: bool
    def __init__(self, node_id: _Optional[bytes] = ..., duration_ms: _Optional[int] = ..., reason: _Optional[str] = ..., lift: _Optional[bool] = ...) -> None: ...

class BanReply(_message.Message):
    __slots__ = ("banned",)
    BANNED_FIELD_NUMBER: _ClassVar[int]
    banned: bool
    def __init__(self, banned: _Optional[bool] = ...) -> None: ...

class GetStateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStateReply(_message.Message):
    __slots__ = ("node_id", "incarnation", "topology_generation", "neighbours", "sightings", "newest", "banned", "draining")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_GENERATION_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    SIGHTINGS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    BANNED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    node_id: bytes
    incarnation: int
    topology_generation: int
    neighbours: _containers.RepeatedCompositeFieldContainer[Neighbour]
    sightings: _containers.RepeatedCompositeFieldContainer[_peer_pb2.Sighting]
    newest: _containers.RepeatedCompositeFieldContainer[_objects_pb2.Newest]
    banned: _containers.RepeatedScalarFieldContainer[bytes]
    draining: bool
    def __init__(self, node_id: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., topology_generation: _Optional[int] = ..., neighbours: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ..., sightings: _Optional[_Iterable[_Union[_peer_pb2.Sighting, _Mapping]]] = ..., newest: _Optional[_Iterable[_Union[_objects_pb2.Newest, _Mapping]]] = ..., banned: _Optional[_Iterable[bytes]] = ..., draining: _Optional[bool] = ...) -> None: ...
