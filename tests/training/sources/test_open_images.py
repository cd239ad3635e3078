"""Open Images: files known by their headers, labels by confidence, lines that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from koine.errors import SourceError
from tests.training.sources.made import made, picture, write_open_images
from training.sources import Item, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_open_images(tmp_path, made())
    return tmp_path


def items(folder: Path) -> list[Item]:
    source = open_source("open-images", folder)
    source.scan()
    return list(source.items())


def append(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")


def test_machine_labels_count_above_one_half(folder: Path) -> None:
    (folder / "machine.csv").write_text(
        "ImageID,Source,LabelName,Confidence\n"
        "img000,machine,/m/boat,0.6\nimg000,machine,/m/tree,0.5\nimg000,machine,/m/unnamed,0.9\n"
    )
    assert items(folder)[0].labels == ("/m/unnamed", "boat")


def test_boxes_give_labels_too(folder: Path) -> None:
    (folder / "boxes.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin\nimg000,x,/m/boat,1,0.5\nimg000,x,/m/boat,1,0.7\n"
    )
    assert items(folder)[0].labels == ("boat",)


def test_subset_from_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "test-images.csv").write_text("ImageID,Rotation\nabc,0\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "abc.jpg").write_bytes(picture(3))
    (item,) = items(tmp_path)
    assert (item.split, item.image()) == ("test", picture(3))


@pytest.mark.parametrize("place", ["train/data", "images/train", "images"])
def test_places_of_images(tmp_path: Path, place: str) -> None:
    (tmp_path / "ids.csv").write_text("ImageID,Subset\nabc,train\n")
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "abc.jpg").write_bytes(picture(3))
    assert items(tmp_path)[0].image() == picture(3)


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("image_ids_and_rotation.csv", "x,dev,u", r"line 13: unknown split 'dev'"),
        ("image_ids_and_rotation.csv", "img000,train,u", "'img000' is listed 2 times"),
        ("image_ids_and_rotation.csv", ",train,u", "line 13: `ImageID` is missing"),
        ("human-imagelabels.csv", "img000,x,/m/dog,much", "`Confidence` must be a number, got"),
        ("human-imagelabels.csv", "img000,x", "`LabelName` is missing"),
        ("class-descriptions.csv", "/m/alone", "line 6: expected a class and its name"),
        ("narratives.jsonl", '{"image_id": "img000"}', "expected .*, got .*KeyError"),
        ("narratives.jsonl", "{", "line 16: expected"),
    ],
)
def test_a_bad_line_is_named(folder: Path, file: str, line: str, says: str) -> None:
    append(folder / file, line)
    with pytest.raises(SourceError, match=says):
        items(folder)


def test_bytes_that_are_no_utf8(folder: Path) -> None:
    path = folder / "human-imagelabels.csv"
    path.write_bytes(path.read_bytes() + b"img000,x,/m/\xff,1\n")
    with pytest.raises(SourceError, match="cannot be read as CSV"):
        items(folder)


def test_a_list_without_images(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("ImageID,Subset\n")
    with pytest.raises(SourceError, match="lists no images"):
        items(tmp_path)
