"""`extract` as it is typed: what it prints, where it prints it, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.activations.tiny_recipe import tiny
from tests.training.sources.made import made, write_captions_folder
from training.__main__ import main
from training.recipes import RECIPES


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "tiny", tiny)


def extract(folder: Path, *more: str) -> int:
    return main(
        ["extract", "--recipe", "tiny", "--data", str(folder / "data"), "--out", str(folder / "s"),
         "--device", "cpu", "--shard-size", "8", *more]
    )  # fmt: skip


def test_it_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_captions_folder(tmp_path / "data", made(25))
    (tmp_path / "data/images/img003.jpg").write_bytes(b"no image")
    (tmp_path / "data/images/img024.jpg").unlink()
    assert extract(tmp_path) == 0
    out, err = capsys.readouterr()
    assert "23 rows" in out
    kept = [item for item in made(25) if item.name not in ("img003", "img024")]
    texts, rows = sum(len(item.captions) for item in kept), sum(bool(i.captions) for i in kept)
    assert f"clip_text: {texts} vectors of 24 for {rows} rows" in out
    assert "left out: 2 rows and 0 captions" in out
    assert "images/img003.jpg: 8 bytes that begin with b'no image' are no image" in out
    assert "images/img024.jpg: the image file img024.jpg is missing" in out
    assert "extract: 25 / 25" in err

    assert extract(tmp_path) == 0
    assert "is complete already; nothing was done" in capsys.readouterr().out

    assert extract(tmp_path, "--dtype", "float16") == 2
    assert 'dtype: "float32" then, "float16" now' in capsys.readouterr().err


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    assert extract(tmp_path) == 2
    assert "The source cannot be read: The folder" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_source_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_captions_folder(tmp_path / "data", made(3))
    assert extract(tmp_path, "--source", "webdataset") == 2
    assert "has no .tar file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--shard-size", "0"), ("--limit", "-1"), ("--recipe", "nothing")]
)
def test_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        extract(tmp_path, option, value)
    assert ended.value.code == 2
    assert option in capsys.readouterr().err
