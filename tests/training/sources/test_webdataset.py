"""WebDataset tars: members that belong together, splits by name, tars that are damaged."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from koine.errors import ImageError, SourceError
from tests.training.sources.made import add_member, picture
from training.sources import Item, open_source


def write(path: Path, *members: tuple[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add_member(tar, name, data)


def items(folder: Path) -> list[Item]:
    source = open_source("webdataset", folder)
    source.scan()
    return list(source.items())


def test_text_members_hold_a_caption_a_line_and_win(tmp_path: Path) -> None:
    write(
        tmp_path / "x.tar",
        ("d/1.0.png", picture(1)),
        ("d/1.0.txt", "ein Hund\nzwei Hünde\n".encode()),
        ("d/1.0.json", b'{"caption": "ignored", "labels": ["dog"]}'),
        ("2.jpg", picture(2)),
        ("2.json", b'{"caption": "a cat"}'),
    )
    # everything after the first dot is the suffix, so that `1.0.png` is the key `1`: WebDataset's
    # rule, under which it has no image
    first, second = items(tmp_path)
    assert (first.id, second.id) == ("x/d/1", "x/2")
    assert second.captions == ("a cat",)
    write(tmp_path / "x.tar", ("1.png", picture(1)), ("1.txt", b"one\ntwo\n"), ("1.json", b"{}"))
    (item,) = items(tmp_path)
    assert item.captions == ("one", "two")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/00.tar", "train"),
        ("validation/00.tar", "val"),
        ("val-0001.tar", "val"),
        ("test_3.tar", "test"),
        ("test/train/0.tar", "train"),
    ],
)
def test_split_by_name(tmp_path: Path, name: str, split: str) -> None:
    write(tmp_path / name, ("1.jpg", picture(1)), ("2.jpg", picture(1)), ("3.jpg", picture(1)))
    assert {item.split for item in items(tmp_path)} == {split}


def test_equal_keys_in_two_tars_are_two_items(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write(tmp_path / name, ("0.jpg", picture(1)))
    assert [item.id for item in items(tmp_path)] == ["a/0", "b/0"]


def test_equal_keys_in_one_tar(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", *((f"{key}.jpg", picture(1)) for key in (1, 2, 1)))
    with pytest.raises(SourceError, match=r"The id 'a/1' occurs twice: in .*a\.tar"):
        items(tmp_path)


def test_captions_without_images(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", ("1.txt", b"a dog"), ("2.txt", b"a cat"))
    with pytest.raises(SourceError, match="captions without images: 2 samples, none with"):
        items(tmp_path)


def test_one_sample_without_image(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", ("1.txt", b"a dog"), ("2.jpg", picture(2)))
    first, second = items(tmp_path)
    with pytest.raises(ImageError, match=r"no image, only \.txt"):
        first.image()
    assert second.image() == picture(2)


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        (b'{"caption": ', "key '1': its JSON cannot be read"),
        (b'["a dog"]', "key '1': its JSON must be an object.*got list"),
        (b'{"captions": "a dog"}', "key '1': `captions` must be a list of texts, got a dog"),
        (b'{"split": "dev"}', "key '1': unknown split 'dev'"),
        (b'{"labels": [1]}', r"key '1': `labels` must be a list of texts, got \[1\]"),
        (b"\xff", "key '1': its text is not UTF-8"),
        (b'"' + b"a" * (1 << 20) + b'"', "key '1': its text has 1,048,578 bytes"),
    ],
)
def test_bad_notes_are_named(tmp_path: Path, notes: bytes, says: str) -> None:
    write(tmp_path / "a.tar", ("1.jpg", picture(1)), ("1.json", notes))
    with pytest.raises(SourceError, match=says):
        items(tmp_path)


def test_a_tar_cut_short(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", *((f"{key}.jpg", picture(key)) for key in range(20)))
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"a\.tar is no readable tar: .*cut short"):
        items(tmp_path)


def test_no_tar_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("this is a text" * 100)
    with pytest.raises(SourceError, match=r"a\.tar is no readable tar"):
        items(tmp_path)


def test_packed_tars_are_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(SourceError, match=r"has no \.tar file\. Unpack a\.tar\.gz"):
        open_source("webdataset", tmp_path)
