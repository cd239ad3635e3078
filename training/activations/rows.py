"""What is known of a row besides its activations, as Parquet; knows no arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")

ROWS_FILE = "rows.parquet"

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("captions", pa.list_(pa.string()), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)


class Row(NamedTuple):
    """One item that the streams describe: an image, its captions, its labels."""

    id: str
    captions: tuple[str, ...]
    """Those that were encoded, in the order of the text streams' vectors."""
    labels: tuple[str, ...]
    split: Split


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows so that equal rows give equal bytes."""
    columns = [
        pa.array([row.id for row in rows], pa.string()),
        pa.array([list(row.captions) for row in rows], pa.list_(pa.string())),
        pa.array([list(row.labels) for row in rows], pa.list_(pa.string())),
        pa.array([row.split for row in rows], pa.string()),
    ]
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), buffer, compression="zstd")
    path.write_bytes(buffer.getvalue())


def read_rows(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read some or all columns of a shard's rows."""
    return pq.read_table(path, columns=list(columns) if columns else None, memory_map=False)


def row_at(table: pa.Table, position: int) -> Row:
    """The row at a position of a table with all columns."""
    values = table.slice(position, 1).to_pylist()[0]
    return Row(values["id"], tuple(values["captions"]), tuple(values["labels"]), values["split"])


def codes_of(texts: pa.Array, vocabulary: Sequence[str]) -> pa.Array:
    """Position of each text in a vocabulary, null where it is not in it."""
    values = pa.array(vocabulary, pa.string())
    return pc.index_in(texts, value_set=values)  # pyright: ignore[reportAttributeAccessIssue]
