"""Compare a store's files with its manifest; reads no arrays."""

from __future__ import annotations

from pathlib import Path

from koine.artifact import sha256_file
from koine.errors import StoreError
from training.activations.manifest import PLAN_FILE, FileRecord, StoreManifest, StorePlan, load


def verify_files(
    path: Path, manifest: StoreManifest, *, hashes: bool, share: tuple[int, int] = (0, 1)
) -> None:
    """Check that every file is there with its size and, with `hashes`, its SHA-256.

    Of several processes that open a store together, number `share[0]` of `share[1]` hashes every
    so many shards. Raises StoreError naming the file, what was expected, what was got and what to
    do.
    """
    number, processes = share
    for index, shard in enumerate(manifest.shards):
        own = index % processes == number
        for name, record in shard.files.items():
            _verify(path / "shards" / shard.name / name, record, hashes and own)
    for name, record in manifest.files.items():
        _verify(path / name, record, hashes)
    if load(StorePlan, path / PLAN_FILE) != manifest.plan:
        raise StoreError(
            f"{path / PLAN_FILE} and the plan in store.json differ: files of different stores were"
            " mixed. Restore them, or extract again into an empty folder."
        )


def _verify(file: Path, record: FileRecord, hashes: bool) -> None:
    if not file.is_file():
        raise StoreError(
            f"The store lacks {file}. Restore the file, or extract again into an empty folder."
        )
    size = file.stat().st_size
    if size != record.bytes:
        raise StoreError(_damaged(file, f"{record.bytes:,} bytes", f"{size:,}"))
    if hashes and (got := sha256_file(file)) != record.sha256:
        raise StoreError(_damaged(file, f"SHA-256 {record.sha256}", got))


def _damaged(file: Path, expected: str, got: str) -> str:
    return (
        f"{file} is damaged: expected {expected}, got {got}. Restore the file from a copy, or"
        " extract again into an empty folder."
    )
