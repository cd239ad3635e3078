"""`python -m koine`: what it prints, writes and exits with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from koine import offline
from koine.__main__ import main
from koine.artifact import Artifact
from koine.codes import PAD
from koine.encoder import ConceptEncoder
from koine.sessions import CPU

RNG = np.random.default_rng(5)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three images, one file that is none, and a text file with a blank line in it."""
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for path in files:
        Image.fromarray(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    broken, texts = tmp_path / "broken.jpg", tmp_path / "texts.txt"
    broken.write_text("I am no image")
    texts.write_text("a dog on grass\n\nred square\n")
    return [*files, broken, texts]


def test_inspect_prints_what_an_artifact_holds(
    tiny_artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tiny_artifact.path)]) == 0
    out = capsys.readouterr().out
    for text in ("tiny@0.1", "64, at most 8 active", "tiny_text", "activations only", "0.25"):
        assert text in out
    assert f"sha256:{tiny_artifact.digest}" in out


def test_verify_passes_whole_artifacts_and_names_changed_files(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tiny_artifact.path)]) == 0
    assert "tiny@0.1 is whole" in capsys.readouterr().out
    copy = Path(shutil.copytree(tiny_artifact.path, tmp_path / "copy"))
    good = (copy / "heads/weights.bin").read_bytes()
    (copy / "heads/weights.bin").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert main(["verify", str(copy)]) == 2
    error = capsys.readouterr().err
    assert "The artifact cannot be used" in error
    assert "weights.bin was changed: expected SHA-256" in error


def test_encode_writes_a_row_for_each_item_and_stream(
    tiny_artifact: Artifact, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "codes.parquet"
    names = [str(file) for file in files]
    assert main(["encode", str(tiny_artifact.path), *names, "--out", str(out)]) == 0
    assert "5 items encoded, 2 not" in capsys.readouterr().out
    rows = pq.read_table(out).to_pylist()
    found = [(Path(row["id"]).name, row["stream"]) for row in rows]
    assert found == [
        *((f"{i}.png", stream) for i in range(3) for stream in ("tiny_a", "tiny_b")),
        ("broken.jpg", None),
        ("texts.txt:1", "tiny_text"),
        ("texts.txt:2", None),
        ("texts.txt:3", "tiny_text"),
    ]
    assert rows[6]["error"] is not None
    encoder = ConceptEncoder(tiny_artifact, providers=[CPU])
    batch = np.stack([encoder.preprocess("tiny_b", Image.open(files[1]))])
    codes = encoder.encode({"tiny_b": encoder.activations("tiny_b", batch)})["tiny_b"]
    active_K = codes.indices_NK[0] != PAD
    assert rows[3]["indices"] == codes.indices_NK[0][active_K].tolist()
    # float32 products of other batch sizes sum in another order
    assert rows[3]["values"] == pytest.approx(codes.values_NK[0][active_K].tolist(), rel=1e-5)
    assert rows[3]["error"] is None


def test_batches_change_nothing(
    tiny_artifact: Artifact, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ConceptEncoder(tiny_artifact, providers=[CPU])
    tables = []
    for size in (32, 2):
        monkeypatch.setattr(offline, "BATCH", size)
        counts = offline.encode_files(encoder, files, tmp_path / "c.parquet", mode="joint")
        assert counts == (5, 2)
        tables.append(pq.read_table(tmp_path / "c.parquet"))
    for column in ("id", "stream", "indices", "error"):
        assert tables[0][column].to_pylist() == tables[1][column].to_pylist()


def test_one_stream_only(tiny_artifact: Artifact, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "codes.parquet"
    arguments = ["encode", str(tiny_artifact.path), str(files[0]), str(files[4])]
    assert main([*arguments, "--out", str(out), "--stream", "tiny_a"]) == 0
    rows = pq.read_table(out).to_pylist()
    assert [row["stream"] for row in rows] == ["tiny_a", None, None, None]
    assert "none of the streams tiny_a reads it" in rows[1]["error"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere.png", "--out", "x.parquet"], "no file at nowhere.png"),
        ([__file__, "--out", "x.parquet", "--stream", "clip"], "'clip' is no stream"),
    ],
)
def test_what_cannot_be_encoded_at_all_writes_nothing(
    tiny_artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["encode", str(tiny_artifact.path), *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_bad_items_exit_with_2(tiny_artifact: Artifact, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("x")
    out = tmp_path / "codes.parquet"
    assert main(["encode", str(tiny_artifact.path), str(bad), "--out", str(out)]) == 2
    assert pq.read_table(out).num_rows == 1


def test_as_a_process_it_loads_no_torch(tiny_artifact: Artifact) -> None:
    script = (
        "import sys; from koine.__main__ import main; "
        f"code = main(['verify', {str(tiny_artifact.path)!r}]); "
        "assert 'torch' not in sys.modules and 'bentoml' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usage = subprocess.run([sys.executable, "-m", "koine"], capture_output=True, text=True)
    assert usage.returncode == 2
