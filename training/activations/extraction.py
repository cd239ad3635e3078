"""Run encoders over a source into a store, shard by shard; knows no command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from koine.errors import SourceError
from koine.streams import StreamSpec, TextPreprocess
from training.activations.builder import TOKENIZERS, Made, StoreBuilder, open_builder
from training.activations.manifest import (
    DType,
    ShardRecord,
    Skipped,
    SourceIdentity,
    StorePlan,
    read_manifest,
)
from training.activations.preparation import Preparation, Prepared, in_order
from training.activations.rows import Row
from training.activations.shards import ShardWriter, Vectors
from training.encoders import Encoder
from training.progress import Bar, progress
from training.sources import Scan, Source


def make_plan(
    recipe: str,
    source: Source,
    scan: Scan,
    encoders: Mapping[str, Encoder],
    *,
    dtype: DType,
    shard_size: int,
    batch_size: int,
    limit: int | None,
    device: str,
) -> StorePlan:
    """The plan of an extract; SourceError where the source lacks what the streams read."""
    if not scan.captions and any(encoder.modality == "text" for encoder in encoders.values()):
        raise SourceError(
            f"The recipe {recipe} has text streams, but none of the {scan.items:,} items has a"
            " caption. Add captions, or choose a recipe without text streams."
        )
    return StorePlan(
        recipe=recipe,
        source=SourceIdentity(kind=source.kind, fingerprint=scan.fingerprint),
        streams=tuple(_stored_spec(name, encoder) for name, encoder in encoders.items()),
        dtype=dtype,
        shard_size=shard_size,
        batch_size=batch_size,
        limit=limit,
        device=device,
    )


def extract(
    plan: StorePlan,
    source: Source,
    scan: Scan,
    encoders: Mapping[str, Encoder],
    out: Path,
    *,
    threads: int,
) -> Made:
    """Fill the store at `out`, going on where an earlier run with the same plan stopped.

    A row whose image cannot be read is skipped and listed; a caption that cannot be encoded is
    dropped and listed. Raises StoreError and SourceError.
    """
    total = min(scan.items, plan.limit or scan.items)
    with open_builder(out, plan) as builder:
        if builder.finished:
            return Made(read_manifest(out), already=True)
        for name, encoder in encoders.items():
            if encoder.tokenizer_file:
                builder.add_tokenizer(name, encoder.tokenizer_file)
        items = islice(source.items(builder.items), total - builder.items)
        prepared = in_order(
            Preparation(encoders), items, threads=threads, window=2 * plan.batch_size + threads
        )
        with progress(total, "extract", builder.items) as bar:
            while builder.items < total:
                size = min(plan.shard_size, total - builder.items)
                builder.shards.append(_fill(builder, islice(prepared, size), encoders, bar))
                if builder.shards[-1].items < size:
                    raise SourceError(
                        f"The source ended after {builder.items:,} of {total:,} items: it was"
                        " changed during the run. Extract again into another --out."
                    )
        return Made(builder.finish(), already=False)


def _fill(
    builder: StoreBuilder, prepared: Iterator[Prepared], encoders: Mapping[str, Encoder], bar: Bar
) -> ShardRecord:
    """Write the next shard."""
    skipped: list[Skipped] = []
    dropped: list[Skipped] = []
    items = 0
    with builder.new_shard() as writer:
        while batch := list(islice(prepared, builder.plan.batch_size)):
            items += len(batch)
            for one in batch:
                if one.skipped is not None:
                    skipped.append(Skipped(id=one.item.id, reason=one.skipped))
                else:
                    dropped.extend(Skipped(id=one.item.id, reason=why) for why in one.dropped)
            _append(writer, [one for one in batch if one.skipped is None], encoders, builder.plan)
            bar.advance(len(batch))
        return writer.finish(items, skipped, dropped)


def _append(
    writer: ShardWriter, batch: Sequence[Prepared], encoders: Mapping[str, Encoder], plan: StorePlan
) -> None:
    if not batch:
        return
    vectors = {
        name: _encode_images(encoder, [one.images[name] for one in batch])
        if encoder.modality == "image"
        else _encode_texts(encoder, [one.captions for one in batch], plan.batch_size)
        for name, encoder in encoders.items()
    }
    rows = [Row(p.item.id, p.captions, p.item.labels, p.item.split) for p in batch]
    writer.append(rows, vectors)


def _encode_images(encoder: Encoder, images: Sequence[np.ndarray]) -> Vectors:
    acts_ND = encoder.activations(np.concatenate(images))
    return Vectors(acts_ND, np.ones(len(images), np.int64))


def _encode_texts(
    encoder: Encoder, captions: Sequence[tuple[str, ...]], batch_size: int
) -> Vectors:
    counts_N = np.array([len(some) for some in captions], np.int64)
    texts = [caption for some in captions for caption in some]
    parts = [np.zeros((0, encoder.d_in), np.float32)]
    for start in range(0, len(texts), batch_size):
        parts.append(encoder.activations(encoder.prepare(texts[start : start + batch_size])))
    return Vectors(np.concatenate(parts), counts_N)


def _stored_spec(name: str, encoder: Encoder) -> StreamSpec:
    """The stream's spec with its tokenizer where the store keeps it."""
    spec = encoder.stream(name)
    if isinstance(spec.preprocess, TextPreprocess):
        here = spec.preprocess.model_copy(update={"tokenizer": f"{TOKENIZERS}/{name}.json"})
        return spec.model_copy(update={"preprocess": here})
    return spec
