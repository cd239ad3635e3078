"""Files to codes in a Parquet table, batch by batch in bounded memory; serves nobody.

Columns: `id` (the file, or `file:line` of a text), `stream`, `indices` list<int32>, `values`
list<float32> (strongest first, no pads), `fvu` float32, and `error`, which is null where the item
was encoded; a bad item has one row with nothing but `id` and `error`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from koine.codes import PAD, Codes
from koine.encoder import ConceptEncoder
from koine.errors import InputError, RequestError, TextError, UnknownStreamError
from koine.images import decode_image
from koine.streams import ImagePreprocess, TextPreprocess
from koine.texts import Tokens
from koine.types import ActsND, ImagesNHWC, Mode

DIGEST = "koine.artifact"
"""Key of the table's metadata that holds the digest of the artifact that encoded it."""
BATCH = 32
"""Items that go through the graphs together."""


class Counts(NamedTuple):
    """What became of the items."""

    encoded: int
    failed: int


class _Item(NamedTuple):
    id: str
    content: Image.Image | str | InputError


def encode_files(
    encoder: ConceptEncoder,
    files: Sequence[Path],
    out: Path,
    *,
    streams: Sequence[str] | None = None,
    mode: Mode = "independent",
) -> Counts:
    """Encodes images and `.txt` files (a text per line) by every stream that reads them.

    `out` appears when all is done. Raises `InputError` for a file or stream that is not there.
    """
    names = list(streams or encoder.streams)
    unknown = [name for name in names if name not in encoder.streams]
    if unknown:
        raise UnknownStreamError(
            f"{unknown[0]!r} is no stream of this dictionary; it has {', '.join(encoder.streams)}"
        )
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise RequestError(f"no file at {', '.join(missing)}; give images and .txt files")
    arrow, parquet = pyarrow()
    schema = _schema(arrow).with_metadata({DIGEST: encoder.artifact.digest})
    part = out.with_name(f".{out.name}.tmp")
    counts, items = Counts(0, 0), _items(files)
    try:
        with parquet.ParquetWriter(part, schema) as writer:
            while batch := list(islice(items, BATCH)):
                rows = _rows(encoder, batch, names, mode)
                failed = sum("error" in row for row in rows)
                writer.write_batch(arrow.RecordBatch.from_pylist(rows, schema))
                counts = Counts(counts.encoded + len(batch) - failed, counts.failed + failed)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return counts


def _items(files: Sequence[Path]) -> Iterator[_Item]:
    for file in files:
        if file.suffix.lower() == ".txt":
            text = file.read_text(encoding="utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), start=1):
                yield _Item(f"{file}:{number}", line)
        else:
            try:
                yield _Item(str(file), decode_image(file.read_bytes()))
            except InputError as error:
                yield _Item(str(file), error)


def _rows(
    encoder: ConceptEncoder, batch: Sequence[_Item], names: Sequence[str], mode: Mode
) -> list[dict[str, Any]]:
    """One row per item and stream, or one per item that cannot be encoded."""
    errors = {i: str(x.content) for i, x in enumerate(batch) if isinstance(x.content, InputError)}
    columns = {name: column for column, name in enumerate(encoder.streams)}
    present_NS = np.zeros((len(batch), len(columns)), bool)
    acts: dict[str, ActsND] = {}
    for name in names:
        rows, inputs = _inputs(encoder, batch, name, errors)
        if rows:
            acts[name] = np.zeros((len(batch), encoder.streams[name].d_in), np.float32)
            acts[name][rows] = encoder.activations(name, inputs)
            present_NS[rows, columns[name]] = True
    codes = encoder.encode(acts, mode, present_NS) if acts else {}
    table: list[dict[str, Any]] = []
    for i, item in enumerate(batch):
        found = [name for name in acts if present_NS[i, columns[name]]]
        if not found:
            reason = errors.get(i, f"none of the streams {', '.join(names)} reads it")
            table.append({"id": item.id, "error": reason})
        table += [{"id": item.id, "stream": name, **_listed(codes[name], i)} for name in found]
    return table


def _inputs(
    encoder: ConceptEncoder, batch: Sequence[_Item], name: str, errors: dict[int, str]
) -> tuple[list[int], ImagesNHWC | Tokens]:
    """Which items the stream reads, and what its backbone reads of them; notes bad texts."""
    spec = encoder.streams[name].preprocess
    if isinstance(spec, ImagePreprocess):
        images = {i: x.content for i, x in enumerate(batch) if isinstance(x.content, Image.Image)}
        pixels = [encoder.preprocess(name, image) for image in images.values()]
        side = spec.crop_size
        return list(images), np.array(pixels, np.uint8).reshape(-1, side, side, 3)
    texts: dict[int, str] = {}
    for i, item in enumerate(batch):
        if isinstance(spec, TextPreprocess) and isinstance(item.content, str):
            try:
                encoder.tokenize(name, [item.content])
                texts[i] = item.content
            except TextError as error:
                errors[i] = str(error)
    if not texts:
        nothing_NT = np.zeros((0, 1), np.int64)
        return [], Tokens(nothing_NT, nothing_NT)
    return list(texts), encoder.tokenize(name, list(texts.values()))


def _listed(codes: Codes, row: int) -> dict[str, Any]:
    active_K = codes.indices_NK[row] != PAD
    return {
        "indices": codes.indices_NK[row][active_K].tolist(),
        "values": codes.values_NK[row][active_K].tolist(),
        "fvu": float(codes.fvu_N[row]),
    }


def pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet, which serving does without. Raises `RequestError`."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise RequestError(
            "Parquet needs pyarrow, which the serving environment leaves out: "
            "pip install pyarrow, or run this in the environment of `make setup`"
        ) from None


def _schema(arrow: Any) -> Any:
    return arrow.schema(
        {
            "id": arrow.string(),
            "stream": arrow.string(),
            "indices": arrow.list_(arrow.int32()),
            "values": arrow.list_(arrow.float32()),
            "fvu": arrow.float32(),
            "error": arrow.string(),
        }
    )
