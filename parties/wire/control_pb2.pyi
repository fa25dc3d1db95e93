from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FailureCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_UNSPECIFIED: _ClassVar[FailureCode]
    REFUSED: _ClassVar[FailureCode]
    VIOLATION: _ClassVar[FailureCode]
    BUDGET_EXHAUSTED: _ClassVar[FailureCode]
    FAILED: _ClassVar[FailureCode]
FAILURE_UNSPECIFIED: FailureCode
REFUSED: FailureCode
VIOLATION: FailureCode
BUDGET_EXHAUSTED: FailureCode
FAILED: FailureCode

class TensorSpec(_message.Message):
    __slots__ = ("shape", "dtype", "low", "high")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    low: float
    high: float
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol_version", "party", "role", "model", "model_digest", "cut", "sample", "wire_dtype")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    WIRE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    party: str
    role: int
    model: str
    model_digest: str
    cut: str
    sample: TensorSpec
    wire_dtype: str
    def __init__(self, protocol_version: _Optional[int] = ..., party: _Optional[str] = ..., role: _Optional[int] = ..., model: _Optional[str] = ..., model_digest: _Optional[str] = ..., cut: _Optional[str] = ..., sample: _Optional[_Union[TensorSpec, _Mapping]] = ..., wire_dtype: _Optional[str] = ...) -> None: ...

class MessageSpec(_message.Message):
    __slots__ = ("kind", "tensors")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    kind: int
    tensors: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    def __init__(self, kind: _Optional[int] = ..., tensors: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("session", "requests", "replies", "max_batch")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    session: int
    requests: _containers.RepeatedCompositeFieldContainer[MessageSpec]
    replies: _containers.RepeatedCompositeFieldContainer[MessageSpec]
    max_batch: int
    def __init__(self, session: _Optional[int] = ..., requests: _Optional[_Iterable[_Union[MessageSpec, _Mapping]]] = ..., replies: _Optional[_Iterable[_Union[MessageSpec, _Mapping]]] = ..., max_batch: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "text", "request_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    code: FailureCode
    text: str
    request_id: int
    def __init__(self, code: _Optional[_Union[FailureCode, str]] = ..., text: _Optional[str] = ..., request_id: _Optional[int] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Control(_message.Message):
    __slots__ = ("open", "accepted", "failure", "close")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    accepted: Accepted
    failure: Failure
    close: Close
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ...) -> None: ...
