"""`import` as it is typed: every kind of file, and every way in which files do not fit."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from training.__main__ import main
from training.activations import ActivationStore, importing
from training.activations.matrices import open_matrix

ROWS = 2500


@pytest.fixture
def acts() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, 6)).astype(np.float32)


def import_(folder: Path, *more: str) -> int:
    return main(["import", "--out", str(folder / "s"), "--shard-size", "1100", *more])


def write(folder: Path, kind: str, acts: np.ndarray) -> str:
    """Write a matrix in a way that some tool does; what `--stream` takes for it."""
    if kind == "npy":
        np.save(folder / "a.npy", acts)
    elif kind == "npy fortran":
        np.save(folder / "a.npy", np.asfortranarray(acts))
    elif kind == "npz single":
        np.savez(folder / "a.npz", x=acts)
    elif kind == "npz compressed":
        np.savez_compressed(folder / "a.npz", features=acts, ids=np.arange(ROWS))
    elif kind == "npz key":
        np.savez(folder / "a.npz", x=acts, y=acts[:, :2])
        return f"{folder / 'a.npz'}#x"
    else:
        with h5py.File(folder / "a.h5", "w") as file:
            group = file.create_group("deep") if kind == "h5 key" else file
            name = "x" if kind == "h5 key" else "features"
            group.create_dataset(name, data=acts, chunks=(32, 6), compression="gzip")
            file.create_dataset("indices", data=np.arange(ROWS))
        return f"{folder / 'a.h5'}#deep/x" if kind == "h5 key" else str(folder / "a.h5")
    return str(folder / f"a.{kind[:3]}")


KINDS = ["npy", "npy fortran", "npz single", "npz compressed", "npz key", "h5", "h5 key"]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("kind", KINDS)
def test_values_arrive(tmp_path: Path, acts: np.ndarray, kind: str, dtype: str) -> None:
    file = write(tmp_path, kind, acts.astype(dtype))
    assert import_(tmp_path, "--stream", f"clip={file}") == 0
    store = ActivationStore.open(tmp_path / "s")
    (stream,) = store.streams
    assert (stream.name, stream.modality, stream.encoder, stream.d_in) == (
        "clip",
        "vector",
        None,
        6,
    )
    got = store.gather(np.arange(ROWS)).acts["clip"]
    np.testing.assert_array_equal(got, acts.astype(dtype).astype(np.float32))
    assert len(store.manifest.shards) == 3


def test_labels_ids_splits(tmp_path: Path, acts: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", acts)
    np.save(tmp_path / "b.npy", acts[:, :2])
    labels = np.random.default_rng(1).integers(0, 2, (ROWS, 11))
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "ids.txt").write_text("\n".join(f"photo {i}" for i in range(ROWS)))
    assert import_(
        tmp_path, "--stream", f"a={tmp_path}/a.npy", "--stream", f"b={tmp_path}/b.npy",
        "--labels", f"{tmp_path}/labels.npy",
        "--ids", f"{tmp_path}/ids.txt", "--split", "0.5/0/0.5",
    ) == 0  # fmt: skip
    store = ActivationStore.open(tmp_path / "s")
    assert [stream.d_in for stream in store.streams] == [6, 2]
    assert store.label_names == tuple(f"label_{i:02d}" for i in range(11))
    np.testing.assert_array_equal(store.labels(np.arange(ROWS)), labels == 1)
    assert store.row(7).id == "photo 7"
    # three standard deviations of a half among 2,500
    assert abs(store.manifest.splits["train"] - ROWS / 2) < 75
    assert store.manifest.splits["val"] == 0


def test_stopped_and_resumed(
    tmp_path: Path, acts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("npy", "npz compressed", "h5"):
        write(tmp_path, kind, acts)
    streams = [f"--stream={s}={tmp_path}/a.{s}" for s in ("npy", "npz", "h5")]
    assert import_(tmp_path, *streams) == 0
    whole = {f.name: f.read_bytes() for f in (tmp_path / "s").rglob("*") if f.is_file()}
    (tmp_path / "s").rename(tmp_path / "whole")

    write_shard, calls = importing._write_shard, []

    def stop(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write_shard(*args, **kwargs)

    monkeypatch.setattr(importing, "_write_shard", stop)
    assert import_(tmp_path, *streams) == 130
    assert len(list((tmp_path / "s/shards").iterdir())) == 1
    assert import_(tmp_path, *streams) == 0
    assert len(calls) == 4
    again = {f.name: f.read_bytes() for f in (tmp_path / "s").rglob("*") if f.is_file()}
    assert again == whole


def test_importing_again_does_nothing(
    tmp_path: Path, acts: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "npy", acts)
    assert import_(tmp_path, "--stream", f"a={file}") == 0
    assert "complete already" not in capsys.readouterr().out
    assert import_(tmp_path, "--stream", f"a={file}") == 0
    assert "complete already; nothing was done" in capsys.readouterr().out
    np.save(file, acts + 1)
    assert import_(tmp_path, "--stream", f"a={file}") == 2
    assert "source.fingerprint" in capsys.readouterr().err


def bad(tmp_path: Path, acts: np.ndarray) -> dict[str, tuple[list[str], str]]:
    """Files that do not fit: what is typed, and what is said."""
    save = {
        "good": acts,
        "short": acts[:-1],
        "nan": np.where(np.arange(ROWS)[:, None] % 1000 == 999, np.nan, acts),
        "inf": np.where(np.arange(ROWS)[:, None] == 2400, 1e39, acts.astype(np.float64)),
        "whole": np.ones((ROWS, 6), np.int64),
        "line": acts[:, 0],
        "cube": acts[:, :, None],
        "none": acts[:0],
        "wide": np.zeros((2, 70_000), np.float32),
        "labels": np.full((ROWS, 3), 2),
        "few_labels": np.zeros((ROWS - 1, 3)),
    }
    for name, array in save.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "objects.npy", np.array([[{"a": 1}]]), allow_pickle=True)
    np.savez(tmp_path / "two.npz", x=acts, y=acts)
    np.savez(tmp_path / "fortran.npz", np.asfortranarray(acts))
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "text.npz").write_text("1 2 3")
    (tmp_path / "text.h5").write_text("1 2 3")
    whole = (tmp_path / "good.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "twice.txt").write_text("\n".join(["a", *map(str, range(ROWS - 2)), "a"]))
    at = str(tmp_path)
    good = f"--stream=a={at}/good.npy"
    return {
        "other N": (
            [good, f"--stream=b={at}/short.npy"],
            "do not align: stream `a` 2,500, stream `b` 2,499. Row i of every file",
        ),
        "other N labels": ([good, f"--labels={at}/few_labels.npy"], "--labels 2,499"),
        "nan": (
            [f"--stream=a={at}/nan.npy"],
            "2 of 2,500 rows hold NaN or infinite values, first row 999 (counted from 0)",
        ),
        "too large": ([f"--stream=a={at}/inf.npy"], "1 of 2,500 rows hold NaN or infinite"),
        "integers": ([f"--stream=a={at}/whole.npy"], "holds int64; activations must be float16"),
        "1-d": ([f"--stream=a={at}/line.npy"], "must have the shape rows × width, got (2500,)"),
        "3-d": ([f"--stream=a={at}/cube.npy"], "rows × width, got (2500, 6, 1)"),
        "no rows": ([f"--stream=a={at}/none.npy"], "is empty: 0 rows of width 6"),
        "too wide": ([f"--stream=a={at}/wide.npy"], "less than or equal to 65536, got 70000"),
        "pickle": ([f"--stream=a={at}/objects.npy"], "holds Python objects, which only pickle"),
        "which key": ([f"--stream=a={at}/two.npz"], "holds 2 arrays (x, y) and none is called"),
        "no key": ([f"--stream=a={at}/two.npz#z"], "has no array 'z'; it has x, y"),
        "needless key": ([f"--stream=a={at}/good.npy#z"], "holds one array and no key 'z'"),
        "columns": ([f"--stream=a={at}/fortran.npz"], "stored column by column"),
        "no npy": ([f"--stream=a={at}/text.npy"], "is no readable .npy file"),
        "no npz": ([f"--stream=a={at}/text.npz"], "is no readable .npz file"),
        "no h5": ([f"--stream=a={at}/text.h5"], "is no readable .h5 file"),
        "cut": ([f"--stream=a={at}/cut.npy"], "cut.npy is no readable .npy file"),
        "no file": ([f"--stream=a={at}/absent.npy"], "There is no file"),
        "ending": ([f"--stream=a={at}/twice.txt"], "has an unknown ending; use .npy, .npz, .h5"),
        "no name": ([f"--stream={at}/good.npy"], "expected NAME=FILE"),
        "bad name": ([f"--stream=Clip-L={at}/good.npy"], "use lower-case letters"),
        "name twice": ([good, good], "'a' is given twice"),
        "labels 2": ([good, f"--labels={at}/labels.npy"], "2,500 rows hold values other than 0"),
        "id twice": ([good, f"--ids={at}/twice.txt"], "--ids: 'a' occurs twice"),
        "no ids": ([good, f"--ids={at}/absent.txt"], "absent.txt cannot be read"),
        "split": ([good, "--split=0.8/0.1"], "expected three parts that sum to 1"),
        "split sum": ([good, "--split=0.8/0.1/0.2"], "expected three parts that sum to 1"),
        "label names": ([good, f"--label-names={at}/twice.txt"], "--label-names needs --labels"),
        "label count": (
            [good, f"--labels={at}/labels.npy", f"--label-names={at}/twice.txt"],
            "--labels has 3 columns, but 2500 label names",
        ),
    }


def test_what_does_not_fit_is_said(
    tmp_path: Path, acts: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (typed, says) in bad(tmp_path, acts).items():
        assert main(["import", "--out", str(tmp_path / name), *typed]) == 2, name
        err = capsys.readouterr().err
        assert says in err, (name, err)
        assert "Traceback" not in err
        assert not (tmp_path / name / "store.json").exists()


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    """No reader asks for more than the rows it was asked for, from wherever it starts."""
    acts = np.arange(60.0, dtype=np.float32).reshape(20, 3)
    for kind in ("npy", "npz single"):
        file = write(tmp_path, kind, acts)
        matrix = open_matrix(file)
        for start in (0, 7):
            with matrix.reader(start) as read:
                np.testing.assert_array_equal(read(5), acts[start : start + 5])
                np.testing.assert_array_equal(read(3), acts[start + 5 : start + 8])
