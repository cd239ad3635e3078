"""What a store says of itself: `plan.json` before the work, `store.json` after; reads no arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from koine.errors import StoreError
from koine.streams import Spec, StreamSpec

SCHEMA = "koine.store/1"
PLAN_FILE = "plan.json"
STORE_FILE = "store.json"
SHARD_FILE = "shard.json"

DType = Literal["float32", "float16"]

S = TypeVar("S", bound=Spec)


class SourceIdentity(Spec):
    """Where the items came from: moving the folder keeps it, other contents change it."""

    kind: str
    fingerprint: str
    """`sha256:` over the listing (captions, labels, image names), not the pixels."""


class StorePlan(Spec):
    """Everything that decides a store's bytes; a resumed run must have the same plan."""

    recipe: str | None
    """None for an import."""
    source: SourceIdentity
    streams: tuple[StreamSpec, ...] = Field(min_length=1)
    dtype: DType
    shard_size: int = Field(gt=0)
    """Items of the source in a shard."""
    batch_size: int = Field(gt=0)
    """Rows that go through an encoder together: a batch's padding can change last bits."""
    limit: int | None = None
    """Items read of the source; None for all."""
    device: str | None = None
    """Where the encoders ran: another kind of machine changes last bits. None for an import."""


class FileRecord(Spec):
    """A file as it was written."""

    sha256: str
    bytes: int


class Skipped(Spec):
    """A row, or a row's caption, that was left out."""

    id: str
    reason: str


class ShardRecord(Spec):
    """`shard.json`: what a shard holds and what was left out of it."""

    items: int
    """Items of the source that it covers: rows and skipped ones."""
    rows: int
    skipped: tuple[Skipped, ...]
    dropped_captions: tuple[Skipped, ...]
    """Blank captions of rows that were kept."""
    files: dict[str, FileRecord]


class ShardSummary(Spec):
    """A shard's line in `store.json`."""

    name: str
    items: int
    rows: int
    skipped: int
    dropped_captions: int
    files: dict[str, FileRecord]
    """By name inside the shard, `shard.json` included."""


class StoreManifest(Spec):
    """`store.json`: written last, so a store that has it is whole."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

    schema_version: Literal["koine.store/1"] = Field(default=SCHEMA, alias="schema")
    plan: StorePlan
    label_names: tuple[str, ...]
    num_rows: int
    splits: dict[str, int]
    """Rows per split."""
    vectors: dict[str, int]
    """Vectors per stream."""
    present: dict[str, int]
    """Rows per stream that have at least one vector."""
    skipped: int
    dropped_captions: int
    shards: tuple[ShardSummary, ...]
    files: dict[str, FileRecord]
    """Files outside the shards (tokenizers), by path in the store."""


def dump(spec: Spec) -> bytes:
    """JSON of a spec, the same bytes for the same contents."""
    data = spec.model_dump(mode="json", by_alias=True)
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def load(kind: type[S], path: Path) -> S:
    """Read a spec; StoreError names the file and the first thing wrong with it."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise StoreError(
            f"{path} cannot be read: at `{where}`: {first['msg']}. Restore the file, or make the"
            " store anew in an empty folder."
        ) from None


def read_manifest(store: Path) -> StoreManifest:
    """The manifest of a finished store; StoreError if there is none or its version is unknown."""
    path = store / STORE_FILE
    if not path.is_file():
        if (store / PLAN_FILE).is_file():
            raise StoreError(
                f"The store {store} is unfinished: it has {PLAN_FILE} but no {STORE_FILE}. Run the"
                " extract (or import) again with the same options; it goes on where it stopped."
            )
        raise StoreError(
            f"{store} is no activation store: it has no {STORE_FILE}. Make one with"
            " `python -m training extract` or `python -m training import`."
        )
    _check_version(path)
    return load(StoreManifest, path)


def _check_version(path: Path) -> None:
    try:
        version = json.loads(path.read_bytes())["schema"]
    except (ValueError, TypeError, KeyError):
        return  # `load` says what is wrong
    if version != SCHEMA:
        raise StoreError(
            f"{path} has schema {version!r}; this version of Koine reads {SCHEMA!r}. Extract again,"
            " or use the Koine version that wrote it."
        )
