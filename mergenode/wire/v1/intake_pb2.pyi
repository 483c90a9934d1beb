from mergenode.wire.v1 import objects_pb2 as _objects_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BeginRequest(_message.Message):
    __slots__ = ("lineage", "name", "root", "manifest_bytes", "weight_bytes", "idempotency_key", "weight", "files", "base", "profile")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    class ProfileEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    lineage: str
    name: str
    root: bytes
    manifest_bytes: int
    weight_bytes: int
    idempotency_key: str
    weight: float
    files: _containers.ScalarMap[str, bytes]
    base: str
    profile: _containers.ScalarMap[str, float]
    def __init__(self, lineage: _Optional[str] = ..., name: _Optional[str] = ..., root: _Optional[bytes] = ..., manifest_bytes: _Optional[int] = ..., weight_bytes: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., weight: _Optional[float] = ..., files: _Optional[_Mapping[str, bytes]] = ..., base: _Optional[str] = ..., profile: _Optional[_Mapping[str, float]] = ...) -> None: ...

class BeginReply(_message.Message):
    __slots__ = ("upload_id", "retry_after_ms", "expires_ms")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    upload_id: bytes
    retry_after_ms: int
    expires_ms: int
    def __init__(self, upload_id: _Optional[bytes] = ..., retry_after_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class MissingReply(_message.Message):
    __slots__ = ("blocks", "wanted")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    wanted: bytes
    def __init__(self, blocks: _Optional[int] = ..., wanted: _Optional[bytes] = ...) -> None: ...

class PutReply(_message.Message):
    __slots__ = ("blocks", "wanted")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    wanted: bytes
    def __init__(self, blocks: _Optional[int] = ..., wanted: _Optional[bytes] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("upload_id", "idempotency_key")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    upload_id: bytes
    idempotency_key: str
    def __init__(self, upload_id: _Optional[bytes] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class CommitReply(_message.Message):
    __slots__ = ("outcome", "reason", "message", "hint", "folded", "share_kept", "score")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[CommitReply.Outcome]
        OUTCOME_ACCEPTED: _ClassVar[CommitReply.Outcome]
        OUTCOME_QUARANTINED: _ClassVar[CommitReply.Outcome]
        OUTCOME_DUPLICATE: _ClassVar[CommitReply.Outcome]
        OUTCOME_REJECTED: _ClassVar[CommitReply.Outcome]
        OUTCOME_NOT_SELECTED: _ClassVar[CommitReply.Outcome]
    OUTCOME_UNSPECIFIED: CommitReply.Outcome
    OUTCOME_ACCEPTED: CommitReply.Outcome
    OUTCOME_QUARANTINED: CommitReply.Outcome
    OUTCOME_DUPLICATE: CommitReply.Outcome
    OUTCOME_REJECTED: CommitReply.Outcome
    OUTCOME_NOT_SELECTED: CommitReply.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    FOLDED_FIELD_NUMBER: _ClassVar[int]
    SHARE_KEPT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    outcome: CommitReply.Outcome
    reason: str
    message: str
    hint: str
    folded: bool
    share_kept: float
    score: float
    def __init__(self, outcome: _Optional[_Union[CommitReply.Outcome, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., folded: _Optional[bool] = ..., share_kept: _Optional[float] = ..., score: _Optional[float] = ...) -> None: ...
