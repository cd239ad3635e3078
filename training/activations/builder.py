"""Grow a store shard by shard so that a killed run goes on to the same bytes; knows no encoder."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from koine.errors import StoreError
from training.activations.files import clear_when_full, write_atomic
from training.activations.index import offsets_of
from training.activations.manifest import (
    PLAN_FILE,
    SHARD_FILE,
    STORE_FILE,
    ShardRecord,
    ShardSummary,
    StoreManifest,
    StorePlan,
    dump,
    load,
)
from training.activations.rows import ROWS_FILE, SPLITS, read_rows
from training.activations.shards import (
    TEMPORARY,
    ShardWriter,
    file_record,
    shard_name,
)

TOKENIZERS = "tokenizers"


class Made(NamedTuple):
    """What an extract or an import left."""

    manifest: StoreManifest
    already: bool
    """The store was whole before; nothing was done."""


class StoreBuilder:
    """A store in the making, held by one process at a time; use `open_builder`."""

    def __init__(self, path: Path, plan: StorePlan) -> None:
        self.path = path
        self.plan = plan
        self.shards: list[ShardRecord] = _finished_shards(path, plan)

    @property
    def items(self) -> int:
        """Items of the source that finished shards cover."""
        return sum(shard.items for shard in self.shards)

    @property
    def rows(self) -> int:
        """Rows in finished shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.path / STORE_FILE).is_file()

    def kept(self) -> str:
        """What a failure now would not lose, in words."""
        return f"{len(self.shards)} finished shards with {self.rows:,} rows"

    def new_shard(self) -> ShardWriter:
        """A writer for the next shard."""
        widths = {stream.name: stream.d_in for stream in self.plan.streams}
        return ShardWriter(self.path / "shards", len(self.shards), widths, self.plan.dtype)

    def add_tokenizer(self, stream: str, file: Path) -> None:
        """Copy a stream's tokenizer into the store, where its spec says it lies."""
        place = self.path / TOKENIZERS / f"{stream}.json"
        place.parent.mkdir(exist_ok=True)
        write_atomic(place, file.read_bytes())

    def finish(self, label_names: Sequence[str] | None = None) -> StoreManifest:
        """Write `store.json`; without `label_names` the vocabulary is the labels that occur.

        Raises StoreError when no row is left: a store of nothing is of no use.
        """
        if not self.rows:
            raise StoreError(_nothing_left(self.shards))
        splits, labels = self._count_rows()
        vectors, present = self._count_vectors()
        tokenizers = sorted((self.path / TOKENIZERS).glob("*.json"))
        manifest = StoreManifest(
            plan=self.plan,
            label_names=tuple(label_names if label_names is not None else sorted(labels)),
            num_rows=self.rows,
            splits={split: splits[split] for split in SPLITS},
            vectors=vectors,
            present=present,
            skipped=sum(len(shard.skipped) for shard in self.shards),
            dropped_captions=sum(len(shard.dropped_captions) for shard in self.shards),
            shards=tuple(self._summary(index) for index in range(len(self.shards))),
            files={f"{TOKENIZERS}/{file.name}": file_record(file) for file in tokenizers},
        )
        write_atomic(self.path / STORE_FILE, dump(manifest))
        return manifest

    def _folder(self, index: int) -> Path:
        return self.path / "shards" / shard_name(index)

    def _count_rows(self) -> tuple[Counter[str], set[str]]:
        splits: Counter[str] = Counter()
        labels: set[str] = set()
        for index in range(len(self.shards)):
            table = read_rows(self._folder(index) / ROWS_FILE, ["split", "labels"])
            splits.update(table["split"].to_pylist())
            labels.update(table["labels"].combine_chunks().flatten().unique().to_pylist())
        return splits, labels

    def _count_vectors(self) -> tuple[dict[str, int], dict[str, int]]:
        names = [stream.name for stream in self.plan.streams]
        vectors, present = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        for index in range(len(self.shards)):
            for name in names:
                offsets_M = offsets_of(self._folder(index), name)
                vectors[name] += int(offsets_M[-1])
                present[name] += int((offsets_M[1:] > offsets_M[:-1]).sum())
        return vectors, present

    def _summary(self, index: int) -> ShardSummary:
        record, file = self.shards[index], self._folder(index) / SHARD_FILE
        return ShardSummary(
            name=shard_name(index),
            items=record.items,
            rows=record.rows,
            skipped=len(record.skipped),
            dropped_captions=len(record.dropped_captions),
            files={**record.files, SHARD_FILE: file_record(file)},
        )


@contextmanager
def open_builder(path: Path, plan: StorePlan) -> Iterator[StoreBuilder]:
    """Start a store at `path`, or go on with one that has the same plan.

    Raises StoreError when the folder holds something else, another plan, or a running extract.
    """
    with clear_when_full(path, lambda: "nothing, it had not begun"):
        path.mkdir(parents=True, exist_ok=True)
        if not (path / PLAN_FILE).is_file():
            _check_free(path)
            write_atomic(path / PLAN_FILE, dump(plan))
    with (path / PLAN_FILE).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"Another process is writing the store {path}. Wait for it, or choose"
                " another --out."
            ) from None
        _check_plan(path, plan)
        builder = StoreBuilder(path, plan)
        with clear_when_full(path, builder.kept):
            yield builder


def _check_free(path: Path) -> None:
    there = sorted(entry.name for entry in path.iterdir())
    if [name for name in there if name != PLAN_FILE + ".tmp"]:
        raise StoreError(
            f"{path} is not empty and holds no activation store, but {', '.join(there[:3])}."
            " Choose another --out."
        )


def _check_plan(path: Path, plan: StorePlan) -> None:
    old = load(StorePlan, path / PLAN_FILE)
    if old == plan:
        return
    then, now = old.model_dump(mode="json"), plan.model_dump(mode="json")
    changed = [
        f"  {where}: {_short(was)} then, {_short(becomes)} now"
        for where, was, becomes in _differences(then, now)
    ]
    raise StoreError(
        f"The store {path} was begun with another plan, so this run cannot go on with it:\n"
        + "\n".join(changed)
        + "\nUse the same options as then, or another --out."
    )


def _differences(
    then: object, now: object, where: str = ""
) -> Iterator[tuple[str, object, object]]:
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        then, now = dict(enumerate(then)), dict(enumerate(now))
    if not (isinstance(then, Mapping) and isinstance(now, Mapping)):
        if then != now:
            yield where, then, now
        return
    for key in sorted({*then, *now}, key=str):
        inner = f"{where}.{key}" if where else str(key)
        yield from _differences(then.get(key), now.get(key), inner)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _finished_shards(path: Path, plan: StorePlan) -> list[ShardRecord]:
    shards = path / "shards"
    shards.mkdir(exist_ok=True)
    for leftover in shards.glob("*" + TEMPORARY):
        shutil.rmtree(leftover)
    records: list[ShardRecord] = []
    while (shards / shard_name(len(records))).is_dir():
        folder = shards / shard_name(len(records))
        records.append(load(ShardRecord, folder / SHARD_FILE))
    return records


def _nothing_left(shards: Sequence[ShardRecord]) -> str:
    reasons = [f"{skip.id}: {skip.reason}" for shard in shards for skip in shard.skipped]
    return (
        f"No row is left for the store: all {len(reasons)} items were skipped, for example"
        f" {'; '.join(reasons[:3]) or 'none was read'}. Mend the source and use another --out."
    )
