from mergenode.wire.v1 import objects_pb2 as _objects_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetManifestRequest(_message.Message):
    __slots__ = ("root", "offset")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    offset: int
    def __init__(self, root: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("root", "blocks", "accept", "have_base", "request_id")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    HAVE_BASE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    blocks: _containers.RepeatedCompositeFieldContainer[_objects_pb2.Range]
    accept: _containers.RepeatedScalarFieldContainer[_objects_pb2.Encoding]
    have_base: bytes
    request_id: int
    def __init__(self, root: _Optional[bytes] = ..., blocks: _Optional[_Iterable[_Union[_objects_pb2.Range, _Mapping]]] = ..., accept: _Optional[_Iterable[_Union[_objects_pb2.Encoding, str]]] = ..., have_base: _Optional[bytes] = ..., request_id: _Optional[int] = ...) -> None: ...
