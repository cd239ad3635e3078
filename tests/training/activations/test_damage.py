"""Unfinished, damaged or misaligned stores and other versions are refused with reasons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from koine.errors import StoreError
from tests.training.activations.naive import store_of, truth, write_truth
from training.activations import ActivationStore

KNOWN = truth(23, [(1, 1), (0, 3)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_truth(tmp_path / "s", KNOWN, 10)
    return tmp_path / "s"


def data_files(path: Path) -> list[str]:
    return sorted(
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("store.json", "plan.json")
    )


def test_every_flipped_byte_is_found(path: Path) -> None:
    names = data_files(path)
    assert len(names) == 3 * 6
    for name in names:
        file = path / name
        whole = file.read_bytes()
        for position in (0, len(whole) // 2, len(whole) - 1):
            flipped = bytearray(whole)
            flipped[position] ^= 1
            file.write_bytes(flipped)
            with pytest.raises(StoreError) as caught:
                ActivationStore.open(path)
            message = str(caught.value)
            assert name in message
            assert "expected SHA-256" in message
            assert ", got " in message
            assert "extract again" in message
        file.write_bytes(whole)
    ActivationStore.open(path)


def test_without_verify_hashes_are_not_read(path: Path) -> None:
    file = path / "shards/00001/s0.npy"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    assert len(ActivationStore.open(path, verify=False)) == 23


@pytest.mark.parametrize("verify", [True, False])
def test_missing_and_shortened_files(path: Path, verify: bool) -> None:
    for name in data_files(path):
        file = path / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        with pytest.raises(StoreError, match=r"is damaged: expected [\d,]+ bytes, got [\d,]+\."):
            ActivationStore.open(path, verify=verify)
        file.unlink()
        with pytest.raises(StoreError, match="The store lacks .*extract again"):
            ActivationStore.open(path, verify=verify)
        file.write_bytes(whole)


def test_unfinished(path: Path) -> None:
    (path / "store.json").unlink()
    with pytest.raises(StoreError, match=r"unfinished: .*Run the extract .*again"):
        ActivationStore.open(path)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no activation store"):
        ActivationStore.open(tmp_path)
    with pytest.raises(StoreError, match="is no activation store"):
        ActivationStore.open(tmp_path / "absent")


def edit(path: Path, **changes: object) -> None:
    file = path / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_unknown_version_and_key(path: Path) -> None:
    edit(path, schema="koine.store/2")
    with pytest.raises(StoreError, match=r"schema 'koine.store/2'; .* reads 'koine.store/1'"):
        ActivationStore.open(path)
    edit(path, schema="koine.store/1", compression="zip")
    with pytest.raises(StoreError, match="at `compression`: Extra inputs are not permitted"):
        ActivationStore.open(path)
    (path / "store.json").write_text('{"schema": ')
    with pytest.raises(StoreError, match=r"store\.json cannot be read: .*Invalid JSON"):
        ActivationStore.open(path)


def test_parts_of_another_store(path: Path, tmp_path: Path) -> None:
    """Sizes and hashes agree with the manifest, and yet the streams do not align."""
    write_truth(tmp_path / "other", truth(26, [(1, 1), (0, 3)], seed=1), 13)
    shutil.copy(tmp_path / "other/shards/00000/s1.npy", path / "shards/00000/s1.npy")
    shutil.copy(tmp_path / "other/shards/00000/s1.offsets.npy", path / "shards/00000/")
    relist(path, "s1.npy", "s1.offsets.npy")
    with pytest.raises(StoreError, match=r"00000 do not align: `s1` describes 13 rows, .* has 10"):
        ActivationStore.open(path)


def test_fewer_vectors_than_offsets_say(path: Path) -> None:
    np.save(path / "shards/00000/s0.npy", np.zeros((9, 3), np.float32))
    relist(path, "s0.npy")
    with pytest.raises(StoreError, match=r"`s0` has vectors of shape \(9, 3\), .* need \(10, 3\)"):
        ActivationStore.open(path)


def test_fewer_rows_than_vectors(path: Path, tmp_path: Path) -> None:
    write_truth(tmp_path / "other", truth(9, [(1, 1), (0, 3)]), 9)
    shutil.copy(tmp_path / "other/shards/00000/rows.parquet", path / "shards/00000/")
    relist(path, "rows.parquet")
    with pytest.raises(StoreError, match=r"do not align: rows\.parquet has 9 rows, .* says 10"):
        ActivationStore.open(path)


def test_plan_of_another_store(path: Path, tmp_path: Path) -> None:
    write_truth(tmp_path / "other", KNOWN, 11)
    shutil.copy(tmp_path / "other/plan.json", path)
    with pytest.raises(StoreError, match="plan in store.json differ"):
        ActivationStore.open(path)


def relist(path: Path, *names: str) -> None:
    """Give files of shard 0 their present size and hash in the manifest."""
    from training.activations.shards import file_record

    manifest = json.loads((path / "store.json").read_text())
    for name in names:
        record = file_record(path / "shards/00000" / name)
        manifest["shards"][0]["files"][name] = record.model_dump()
    (path / "store.json").write_text(json.dumps(manifest))


def test_labels_that_the_manifest_does_not_list(path: Path) -> None:
    edit(path, label_names=["boat"])
    with pytest.raises(StoreError, match="labels that store.json does not list"):
        ActivationStore.open(path).labels(np.arange(23))


def test_opened_store_is_whole_again(tmp_path: Path) -> None:
    assert len(store_of(tmp_path / "s", KNOWN, 10)) == 23
