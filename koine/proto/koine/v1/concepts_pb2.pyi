from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEPENDENT: _ClassVar[Mode]
    JOINT: _ClassVar[Mode]

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LISTS: _ClassVar[Encoding]
    PACKED: _ClassVar[Encoding]
INDEPENDENT: Mode
JOINT: Mode
LISTS: Encoding
PACKED: Encoding

class Activations(_message.Message):
    __slots__ = ("values", "raw")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    raw: bytes
    def __init__(self, values: _Optional[_Iterable[float]] = ..., raw: _Optional[bytes] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("id", "image", "text", "activations")
    class ActivationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Activations
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Activations, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    image: bytes
    text: str
    activations: _containers.MessageMap[str, Activations]
    def __init__(self, id: _Optional[str] = ..., image: _Optional[bytes] = ..., text: _Optional[str] = ..., activations: _Optional[_Mapping[str, Activations]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("inputs", "streams", "mode", "top_k", "encoding", "names", "dictionary", "request_id")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[Item]
    streams: _containers.RepeatedScalarFieldContainer[str]
    mode: Mode
    top_k: int
    encoding: Encoding
    names: bool
    dictionary: str
    request_id: str
    def __init__(self, inputs: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., streams: _Optional[_Iterable[str]] = ..., mode: _Optional[_Union[Mode, str]] = ..., top_k: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., names: _Optional[bool] = ..., dictionary: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class Name(_message.Message):
    __slots__ = ("label",)
    LABEL_FIELD_NUMBER: _ClassVar[int]
    label: str
    def __init__(self, label: _Optional[str] = ...) -> None: ...

class Codes(_message.Message):
    __slots__ = ("indices", "values", "fvu", "names", "packed")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FVU_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    fvu: float
    names: _containers.RepeatedCompositeFieldContainer[Name]
    packed: bytes
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ..., fvu: _Optional[float] = ..., names: _Optional[_Iterable[_Union[Name, _Mapping]]] = ..., packed: _Optional[bytes] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("type", "title", "detail", "retry_after")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    type: str
    title: str
    detail: str
    retry_after: float
    def __init__(self, type: _Optional[str] = ..., title: _Optional[str] = ..., detail: _Optional[str] = ..., retry_after: _Optional[float] = ...) -> None: ...

class EncodedItem(_message.Message):
    __slots__ = ("id", "codes", "error")
    class CodesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Codes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Codes, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    codes: _containers.MessageMap[str, Codes]
    error: Error
    def __init__(self, id: _Optional[str] = ..., codes: _Optional[_Mapping[str, Codes]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("read", "decode", "queue", "forward", "total")
    READ_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    read: float
    decode: float
    queue: float
    forward: float
    total: float
    def __init__(self, read: _Optional[float] = ..., decode: _Optional[float] = ..., queue: _Optional[float] = ..., forward: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("dictionary", "results", "request_id", "error", "timings")
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    dictionary: str
    results: _containers.RepeatedCompositeFieldContainer[EncodedItem]
    request_id: str
    error: Error
    timings: Timings
    def __init__(self, dictionary: _Optional[str] = ..., results: _Optional[_Iterable[_Union[EncodedItem, _Mapping]]] = ..., request_id: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("inputs", "streams", "dictionary")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[Item]
    streams: _containers.RepeatedScalarFieldContainer[str]
    dictionary: str
    def __init__(self, inputs: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., streams: _Optional[_Iterable[str]] = ..., dictionary: _Optional[str] = ...) -> None: ...

class Concept(_message.Message):
    __slots__ = ("id", "label", "status", "score", "rate", "value")
    class RateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    id: int
    label: str
    status: str
    score: float
    rate: _containers.ScalarMap[str, float]
    value: float
    def __init__(self, id: _Optional[int] = ..., label: _Optional[str] = ..., status: _Optional[str] = ..., score: _Optional[float] = ..., rate: _Optional[_Mapping[str, float]] = ..., value: _Optional[float] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("jaccard", "shared", "only_a", "only_b")
    JACCARD_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    ONLY_A_FIELD_NUMBER: _ClassVar[int]
    ONLY_B_FIELD_NUMBER: _ClassVar[int]
    jaccard: float
    shared: _containers.RepeatedCompositeFieldContainer[Concept]
    only_a: _containers.RepeatedCompositeFieldContainer[Concept]
    only_b: _containers.RepeatedCompositeFieldContainer[Concept]
    def __init__(self, jaccard: _Optional[float] = ..., shared: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., only_a: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., only_b: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ...) -> None: ...

class ComparedItem(_message.Message):
    __slots__ = ("id", "pairs", "error")
    class PairsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Pair
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Pair, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    pairs: _containers.MessageMap[str, Pair]
    error: Error
    def __init__(self, id: _Optional[str] = ..., pairs: _Optional[_Mapping[str, Pair]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class CompareResponse(_message.Message):
    __slots__ = ("dictionary", "results")
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    dictionary: str
    results: _containers.RepeatedCompositeFieldContainer[ComparedItem]
    def __init__(self, dictionary: _Optional[str] = ..., results: _Optional[_Iterable[_Union[ComparedItem, _Mapping]]] = ...) -> None: ...

class TranslateRequest(_message.Message):
    __slots__ = ("inputs", "to", "dictionary")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[Item]
    to: str
    dictionary: str
    def __init__(self, inputs: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., to: _Optional[str] = ..., dictionary: _Optional[str] = ...) -> None: ...

class Translation(_message.Message):
    __slots__ = ("activations", "expected_fvu")
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FVU_FIELD_NUMBER: _ClassVar[int]
    activations: _containers.RepeatedScalarFieldContainer[float]
    expected_fvu: float
    def __init__(self, activations: _Optional[_Iterable[float]] = ..., expected_fvu: _Optional[float] = ...) -> None: ...

class TranslatedItem(_message.Message):
    __slots__ = ("id", "error")
    class FromEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Translation
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Translation, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    error: Error
    def __init__(self, id: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., **kwargs) -> None: ...

class TranslateResponse(_message.Message):
    __slots__ = ("dictionary", "results")
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    dictionary: str
    results: _containers.RepeatedCompositeFieldContainer[TranslatedItem]
    def __init__(self, dictionary: _Optional[str] = ..., results: _Optional[_Iterable[_Union[TranslatedItem, _Mapping]]] = ...) -> None: ...

class LocalizeRequest(_message.Message):
    __slots__ = ("image", "concept", "text", "stream", "dictionary")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    concept: int
    text: str
    stream: str
    dictionary: str
    def __init__(self, image: _Optional[bytes] = ..., concept: _Optional[int] = ..., text: _Optional[str] = ..., stream: _Optional[str] = ..., dictionary: _Optional[str] = ...) -> None: ...

class Match(_message.Message):
    __slots__ = ("concept", "label", "score")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    concept: int
    label: str
    score: float
    def __init__(self, concept: _Optional[int] = ..., label: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Resolved(_message.Message):
    __slots__ = ("by", "score", "stream", "floor", "matches")
    BY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    by: str
    score: float
    stream: str
    floor: float
    matches: _containers.RepeatedCompositeFieldContainer[Match]
    def __init__(self, by: _Optional[str] = ..., score: _Optional[float] = ..., stream: _Optional[str] = ..., floor: _Optional[float] = ..., matches: _Optional[_Iterable[_Union[Match, _Mapping]]] = ...) -> None: ...

class Grid(_message.Message):
    __slots__ = ("side", "heat", "box")
    SIDE_FIELD_NUMBER: _ClassVar[int]
    HEAT_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    side: int
    heat: _containers.RepeatedScalarFieldContainer[float]
    box: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, side: _Optional[int] = ..., heat: _Optional[_Iterable[float]] = ..., box: _Optional[_Iterable[float]] = ...) -> None: ...

class LocalizeResponse(_message.Message):
    __slots__ = ("dictionary", "concept", "resolved", "stream", "width", "height", "grid", "overlay")
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_FIELD_NUMBER: _ClassVar[int]
    dictionary: str
    concept: Concept
    resolved: Resolved
    stream: str
    width: int
    height: int
    grid: Grid
    overlay: bytes
    def __init__(self, dictionary: _Optional[str] = ..., concept: _Optional[_Union[Concept, _Mapping]] = ..., resolved: _Optional[_Union[Resolved, _Mapping]] = ..., stream: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., grid: _Optional[_Union[Grid, _Mapping]] = ..., overlay: _Optional[bytes] = ...) -> None: ...

class ListConceptsRequest(_message.Message):
    __slots__ = ("q", "status", "limit", "cursor", "dictionary", "evidence", "stream", "min_rate", "min_score", "sort")
    Q_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    MIN_RATE_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    SORT_FIELD_NUMBER: _ClassVar[int]
    q: str
    status: str
    limit: int
    cursor: str
    dictionary: str
    evidence: bool
    stream: str
    min_rate: float
    min_score: float
    sort: str
    def __init__(self, q: _Optional[str] = ..., status: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ..., dictionary: _Optional[str] = ..., evidence: _Optional[bool] = ..., stream: _Optional[str] = ..., min_rate: _Optional[float] = ..., min_score: _Optional[float] = ..., sort: _Optional[str] = ...) -> None: ...

class ListConceptsResponse(_message.Message):
    __slots__ = ("dictionary", "concepts", "next")
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    dictionary: str
    concepts: _containers.RepeatedCompositeFieldContainer[Concept]
    next: str
    def __init__(self, dictionary: _Optional[str] = ..., concepts: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class GetConceptRequest(_message.Message):
    __slots__ = ("id", "dictionary")
    ID_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    id: int
    dictionary: str
    def __init__(self, id: _Optional[int] = ..., dictionary: _Optional[str] = ...) -> None: ...

class UpdateConceptRequest(_message.Message):
    __slots__ = ("id", "status", "label", "reason", "etag", "dictionary")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    id: int
    status: str
    label: str
    reason: str
    etag: str
    dictionary: str
    def __init__(self, id: _Optional[int] = ..., status: _Optional[str] = ..., label: _Optional[str] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ..., dictionary: _Optional[str] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("route", "stream", "term", "score")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    route: str
    stream: str
    term: str
    score: float
    def __init__(self, route: _Optional[str] = ..., stream: _Optional[str] = ..., term: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Exemplar(_message.Message):
    __slots__ = ("item", "stream", "value", "caption", "thumbnail")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_FIELD_NUMBER: _ClassVar[int]
    item: str
    stream: str
    value: float
    caption: str
    thumbnail: str
    def __init__(self, item: _Optional[str] = ..., stream: _Optional[str] = ..., value: _Optional[float] = ..., caption: _Optional[str] = ..., thumbnail: _Optional[str] = ...) -> None: ...

class LabelState(_message.Message):
    __slots__ = ("label", "status")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    label: str
    status: str
    def __init__(self, label: _Optional[str] = ..., status: _Optional[str] = ...) -> None: ...

class LabelChange(_message.Message):
    __slots__ = ("revision", "before", "after", "person", "time", "reason", "source", "confidence")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    revision: int
    before: LabelState
    after: LabelState
    person: str
    time: str
    reason: str
    source: str
    confidence: float
    def __init__(self, revision: _Optional[int] = ..., before: _Optional[_Union[LabelState, _Mapping]] = ..., after: _Optional[_Union[LabelState, _Mapping]] = ..., person: _Optional[str] = ..., time: _Optional[str] = ..., reason: _Optional[str] = ..., source: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class ConceptCard(_message.Message):
    __slots__ = ("dictionary", "id", "label", "status", "score", "rate", "source", "purity", "proposed", "evidence", "nearest", "exemplars", "revision", "etag", "history")
    class RateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class PurityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PURITY_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    NEAREST_FIELD_NUMBER: _ClassVar[int]
    EXEMPLARS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    dictionary: str
    id: int
    label: str
    status: str
    score: float
    rate: _containers.ScalarMap[str, float]
    source: str
    purity: _containers.ScalarMap[str, float]
    proposed: str
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    nearest: _containers.RepeatedCompositeFieldContainer[Concept]
    exemplars: _containers.RepeatedCompositeFieldContainer[Exemplar]
    revision: int
    etag: str
    history: _containers.RepeatedCompositeFieldContainer[LabelChange]
    def __init__(self, dictionary: _Optional[str] = ..., id: _Optional[int] = ..., label: _Optional[str] = ..., status: _Optional[str] = ..., score: _Optional[float] = ..., rate: _Optional[_Mapping[str, float]] = ..., source: _Optional[str] = ..., purity: _Optional[_Mapping[str, float]] = ..., proposed: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., nearest: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., exemplars: _Optional[_Iterable[_Union[Exemplar, _Mapping]]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., history: _Optional[_Iterable[_Union[LabelChange, _Mapping]]] = ...) -> None: ...
