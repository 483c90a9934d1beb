from mergenode.wire.v1 import objects_pb2 as _objects_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PEER_STATE_UNSPECIFIED: _ClassVar[PeerState]
    PEER_STATE_ALIVE: _ClassVar[PeerState]
    PEER_STATE_SUSPECT: _ClassVar[PeerState]
    PEER_STATE_DOWN: _ClassVar[PeerState]
    PEER_STATE_DRAINING: _ClassVar[PeerState]
PEER_STATE_UNSPECIFIED: PeerState
PEER_STATE_ALIVE: PeerState
PEER_STATE_SUSPECT: PeerState
PEER_STATE_DOWN: PeerState
PEER_STATE_DRAINING: PeerState

class PeerLimits(_message.Message):
    __slots__ = ("manifest_bytes", "model_bytes", "transfers")
    MANIFEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    manifest_bytes: int
    model_bytes: int
    transfers: int
    def __init__(self, manifest_bytes: _Optional[int] = ..., model_bytes: _Optional[int] = ..., transfers: _Optional[int] = ...) -> None: ...

class HelloRequest(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "node_id", "incarnation", "capabilities", "limits", "clock_unix_ms", "address")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    node_id: bytes
    incarnation: int
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    limits: PeerLimits
    clock_unix_ms: int
    address: str
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., node_id: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., capabilities: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[PeerLimits, _Mapping]] = ..., clock_unix_ms: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("protocol", "node_id", "incarnation", "capabilities", "limits", "clock_unix_ms")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    node_id: bytes
    incarnation: int
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    limits: PeerLimits
    clock_unix_ms: int
    def __init__(self, protocol: _Optional[int] = ..., node_id: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., capabilities: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[PeerLimits, _Mapping]] = ..., clock_unix_ms: _Optional[int] = ...) -> None: ...

class Sighting(_message.Message):
    __slots__ = ("node_id", "incarnation", "state", "address", "seen_ms_ago")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SEEN_MS_AGO_FIELD_NUMBER: _ClassVar[int]
    node_id: bytes
    incarnation: int
    state: PeerState
    address: str
    seen_ms_ago: int
    def __init__(self, node_id: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., state: _Optional[_Union[PeerState, str]] = ..., address: _Optional[str] = ..., seen_ms_ago: _Optional[int] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("node_id", "incarnation", "sightings", "newest", "clock_unix_ms")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SIGHTINGS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    CLOCK_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    node_id: bytes
    incarnation: int
    sightings: _containers.RepeatedCompositeFieldContainer[Sighting]
    newest: _containers.RepeatedCompositeFieldContainer[_objects_pb2.Newest]
    clock_unix_ms: int
    def __init__(self, node_id: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., sightings: _Optional[_Iterable[_Union[Sighting, _Mapping]]] = ..., newest: _Optional[_Iterable[_Union[_objects_pb2.Newest, _Mapping]]] = ..., clock_unix_ms: _Optional[int] = ...) -> None: ...

class GetHeadsRequest(_message.Message):
    __slots__ = ("lineage", "min_epoch", "after_node")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    MIN_EPOCH_FIELD_NUMBER: _ClassVar[int]
    AFTER_NODE_FIELD_NUMBER: _ClassVar[int]
    lineage: str
    min_epoch: int
    after_node: bytes
    def __init__(self, lineage: _Optional[str] = ..., min_epoch: _Optional[int] = ..., after_node: _Optional[bytes] = ...) -> None: ...

class GetHeadsReply(_message.Message):
    __slots__ = ("heads", "more")
    HEADS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedCompositeFieldContainer[_objects_pb2.SignedHead]
    more: bool
    def __init__(self, heads: _Optional[_Iterable[_Union[_objects_pb2.SignedHead, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class WatchHeadsRequest(_message.Message):
    __slots__ = ("lineage", "known")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    lineage: str
    known: _containers.RepeatedCompositeFieldContainer[_objects_pb2.Newest]
    def __init__(self, lineage: _Optional[str] = ..., known: _Optional[_Iterable[_Union[_objects_pb2.Newest, _Mapping]]] = ...) -> None: ...
