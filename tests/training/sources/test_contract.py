"""What every source does: the same items in a fixed order, from any start, without the images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from koine.errors import RequestError, SourceError
from tests.training.sources.made import WRITERS, Made, made, picture
from training.sources import SOURCES, Item, open_source

KINDS = list(WRITERS)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    WRITERS[kind](tmp_path / "data", made())
    return tmp_path / "data"


def told(item: Item) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return Path(item.id).stem, item.captions, item.labels


def test_all_kinds_are_tested() -> None:
    assert set(SOURCES) == set(WRITERS)


def test_items_are_what_was_written(kind: str, folder: Path) -> None:
    source = open_source(kind, folder)
    scan, items = source.scan(), list(source.items())
    assert scan.items == len(items) == 11
    assert scan.captions == sum(len(item.captions) for item in items) > 0
    assert [told(item) for item in items] == [(m.name, m.captions, m.labels) for m in made()]
    assert [item.image() for item in items] == [picture(number) for number in range(11)]
    assert len({item.id for item in items}) == 11


# COCO names its splits by file: test_coco
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"coco"}), indirect=True)
def test_splits_are_kept_and_the_rest_is_decided_by_the_id(kind: str, folder: Path) -> None:
    items = list(open_source(kind, folder).items())
    for item, expected in zip(items, made(), strict=True):
        if expected.split:
            assert item.split == expected.split
    again = list(open_source(kind, folder).items())
    assert [item.split for item in items] == [item.split for item in again]


@pytest.mark.parametrize("scanned", [True, False])
def test_any_start_gives_the_same_rest(kind: str, folder: Path, scanned: bool) -> None:
    source = open_source(kind, folder)
    if scanned:
        source.scan()
    everything = [(told(i), i.id, i.split) for i in open_source(kind, folder).items()]
    for start in range(13):
        rest = [(told(i), i.id, i.split) for i in source.items(start)]
        assert rest == everything[start:]


def test_fingerprint_follows_contents_not_place(kind: str, folder: Path, tmp_path: Path) -> None:
    first = open_source(kind, folder).scan().fingerprint
    shutil.move(folder, tmp_path / "elsewhere")
    assert open_source(kind, tmp_path / "elsewhere").scan().fingerprint == first
    changed = [*made()[:-1], Made("img010", ("another caption",), (), "train")]
    WRITERS[kind](tmp_path / "changed", changed)
    assert open_source(kind, tmp_path / "changed").scan().fingerprint != first


def test_empty_folder(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is empty\. Put the images"):
        open_source(kind, tmp_path)


def test_no_folder(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no folder"):
        open_source(kind, tmp_path / "absent")


def test_folder_of_something_else(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(0))
    with pytest.raises(SourceError, match="has no .*--source|has no captions"):
        open_source(kind, tmp_path)


# a tar holds images and captions both: test_webdataset
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"webdataset"}), indirect=True)
def test_captions_without_images(kind: str, folder: Path) -> None:
    for image in folder.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(SourceError, match="captions without images.*for example"):
        open_source(kind, folder).scan()


def test_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="Unknown source 'parquet'; use one of captions-folder"):
        open_source("parquet", tmp_path)
