"""captions.jsonl: every line that does not fit is named, nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from koine.errors import ImageError, SourceError
from tests.training.sources.made import picture
from training.sources import Item, open_source
from training.sources.item import hash_split


def folder_with(tmp_path: Path, *lines: str) -> Path:
    (tmp_path / "a.jpg").write_bytes(picture(0))
    (tmp_path / "captions.jsonl").write_text("".join(line + "\n" for line in lines))
    return tmp_path


def items(folder: Path) -> list[Item]:
    source = open_source("captions-folder", folder)
    source.scan()
    return list(source.items())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"image": "a.jpg", "captions": ["a dog"', "line 2: Invalid JSON"),
        ('["a.jpg", "a dog"]', "line 2: Input should be an object"),
        ('{"captions": ["a dog"]}', "line 2: `image`: Field required"),
        ('{"image": "", "captions": []}', "line 2: `image`: String should have at least 1"),
        ('{"image": "b.jpg", "captions": "a dog"}', "line 2: `captions`: Input should be a valid"),
        ('{"image": "b.jpg", "captions": [7]}', "line 2: `captions.0`: Input should be a valid"),
        ('{"image": "b.jpg", "split": "dev"}', "line 2: unknown split 'dev'.*train, val, test"),
        ('{"image": "a.jpg"}', "The id 'a.jpg' occurs twice: .*line 1 and .*line 2"),
        ('{"image": "b.jpg", "id": "a.jpg"}', "occurs twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    folder = folder_with(tmp_path, '{"image": "a.jpg"}', line)
    with pytest.raises(SourceError, match=says):
        items(folder)


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    folder_with(tmp_path)
    (tmp_path / "captions.jsonl").write_bytes(b'{"image": "a\xff.jpg"}\n')
    with pytest.raises(SourceError, match="line 1"):
        items(tmp_path)


def test_no_lines(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"captions\.jsonl is empty"):
        items(folder_with(tmp_path, "", "  "))


def test_images_without_captions_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(0))
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"has no captions\.jsonl \(it holds 2 images\)\. Write"):
        open_source("captions-folder", tmp_path)


def test_blank_lines_and_other_keys_do_not_matter(tmp_path: Path) -> None:
    lines = ["", '{"image": "a.jpg", "url": "http://x", "mask": null}', " "]
    (item,) = items(folder_with(tmp_path, *lines))
    assert (item.id, item.captions, item.labels) == ("a.jpg", (), ())
    assert item.split == hash_split("a.jpg")


def test_own_id(tmp_path: Path) -> None:
    (item,) = items(folder_with(tmp_path, '{"image": "a.jpg", "id": "first"}'))
    assert item.id == "first"


def test_one_missing_image_is_told_when_it_is_read(tmp_path: Path) -> None:
    lines = [json.dumps({"image": name}) for name in ("a.jpg", "gone.jpg")]
    present, missing = items(folder_with(tmp_path, *lines))
    assert present.image() == picture(0)
    with pytest.raises(ImageError, match=r"gone\.jpg is missing in"):
        missing.image()


def test_hash_split_is_about_eight_one_one() -> None:
    splits = [hash_split(f"photo {i}") for i in range(20_000)]
    # three standard deviations of a share of 0.1 among 20,000 are 0.0064
    assert abs(splits.count("val") / 20_000 - 0.1) < 0.0064
    assert abs(splits.count("test") / 20_000 - 0.1) < 0.0064
    assert (hash_split("a"), hash_split("b", 1.0, 0.0)) == (hash_split("a"), "train")
