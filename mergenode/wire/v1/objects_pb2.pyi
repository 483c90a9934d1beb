from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_RAW: _ClassVar[Encoding]
    ENCODING_XOR_SPLIT_ZSTD: _ClassVar[Encoding]
    ENCODING_ORDERED_SPLIT_ZSTD: _ClassVar[Encoding]
    ENCODING_SPLIT_ZSTD: _ClassVar[Encoding]
ENCODING_UNSPECIFIED: Encoding
ENCODING_RAW: Encoding
ENCODING_XOR_SPLIT_ZSTD: Encoding
ENCODING_ORDERED_SPLIT_ZSTD: Encoding
ENCODING_SPLIT_ZSTD: Encoding

class Range(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ManifestPart(_message.Message):
    __slots__ = ("root", "offset", "total_bytes", "upload_id", "data")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    offset: int
    total_bytes: int
    upload_id: bytes
    data: bytes
    def __init__(self, root: _Optional[bytes] = ..., offset: _Optional[int] = ..., total_bytes: _Optional[int] = ..., upload_id: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("block", "offset", "encoding", "flags", "upload_id", "data")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    block: int
    offset: int
    encoding: Encoding
    flags: int
    upload_id: bytes
    data: bytes
    def __init__(self, block: _Optional[int] = ..., offset: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., flags: _Optional[int] = ..., upload_id: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class SignedHead(_message.Message):
    __slots__ = ("head", "signature", "key")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    head: bytes
    signature: bytes
    key: bytes
    def __init__(self, head: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key: _Optional[bytes] = ...) -> None: ...

class Newest(_message.Message):
    __slots__ = ("lineage", "node_id", "incarnation", "seq", "epoch")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    lineage: str
    node_id: bytes
    incarnation: int
    seq: int
    epoch: int
    def __init__(self, lineage: _Optional[str] = ..., node_id: _Optional[bytes] = ..., incarnation: _Optional[int] = ..., seq: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "hint", "retry_after_ms", "alternatives")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CODE_UNSPECIFIED: _ClassVar[Refusal.Code]
        CODE_BUSY: _ClassVar[Refusal.Code]
        CODE_BAD_SCHEMA: _ClassVar[Refusal.Code]
        CODE_UNKNOWN_ROOT: _ClassVar[Refusal.Code]
        CODE_STALE: _ClassVar[Refusal.Code]
        CODE_NOT_ALLOWED: _ClassVar[Refusal.Code]
        CODE_TOO_LARGE: _ClassVar[Refusal.Code]
        CODE_DRAINING: _ClassVar[Refusal.Code]
        CODE_BANNED: _ClassVar[Refusal.Code]
        CODE_QUOTA: _ClassVar[Refusal.Code]
    CODE_UNSPECIFIED: Refusal.Code
    CODE_BUSY: Refusal.Code
    CODE_BAD_SCHEMA: Refusal.Code
    CODE_UNKNOWN_ROOT: Refusal.Code
    CODE_STALE: Refusal.Code
    CODE_NOT_ALLOWED: Refusal.Code
    CODE_TOO_LARGE: Refusal.Code
    CODE_DRAINING: Refusal.Code
    CODE_BANNED: Refusal.Code
    CODE_QUOTA: Refusal.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    code: Refusal.Code
    message: str
    hint: str
    retry_after_ms: int
    alternatives: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, code: _Optional[_Union[Refusal.Code, str]] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., alternatives: _Optional[_Iterable[bytes]] = ...) -> None: ...
