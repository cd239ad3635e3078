"""COCO: JSON of any size streamed, splits by file, annotations that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koine.errors import SourceError
from tests.training.sources.made import Made, made, write_coco
from training.sources import json_arrays, open_source
from training.sources.json_arrays import iterate_array

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    before=st.dictionaries(st.text().filter(lambda key: key != "images"), VALUES, max_size=3),
    images=st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=5),
    indent=st.sampled_from([None, 1]),
    chunk=st.integers(1, 40),
)
def test_streaming_equals_the_standard_library(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, object],
    images: list[dict[str, object]],
    indent: int | None,
    chunk: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "streamed.json"
    path.write_text(json.dumps({**before, "images": images, "end": 12}, indent=indent))
    with patch.object(json_arrays, "CHUNK_CHARS", chunk):
        assert list(iterate_array(path, "images")) == images


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it ends too early"),
        ("[]", r"expected '\{', got '\['"),
        ('{"info": 1}', "has no `images`. Is it a COCO"),
        ('{"images": [{"id": 1}, {"id"', "no readable JSON"),
        ('{"images": [{"id": 1} {"id": 2}]}', "expected ',', got '{'"),
        ('{"images": [1]}', "`images` must hold objects, got int"),
        ('{"images": {"id": 1}}', r"expected '\[', got '\{'"),
    ],
)
def test_broken_json(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=says):
        list(iterate_array(path, "images"))


def test_train_and_val_files_give_disjoint_splits(tmp_path: Path) -> None:
    many = [Made(f"t{i}", (), (), None) for i in range(300)]
    write_coco(tmp_path, many, "train2017")
    write_coco(tmp_path, made(), "val2017")
    items = list(open_source("coco", tmp_path).items())
    assert len(items) == 311
    assert {i.split for i in items if i.id.startswith("val2017/")} == {"test"}
    train = [i.split for i in items if i.id.startswith("train2017/")]
    assert 0 < train.count("val") < 20
    assert train.count("test") == 0


def damaged(folder: Path, name: str, **changes: object) -> Path:
    write_coco(folder, made())
    path = folder / "annotations" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_captions_of_unlisted_images(tmp_path: Path) -> None:
    orphans = [{"image_id": 7, "caption": "a dog"}] * 2
    folder = damaged(tmp_path, "captions_train2017.json", annotations=orphans)
    with pytest.raises(SourceError, match="captions without images: 2 annotations.*train2017:7"):
        open_source("coco", folder).scan()


def test_an_image_listed_twice(tmp_path: Path) -> None:
    twice = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    folder = damaged(tmp_path, "captions_train2017.json", images=twice, annotations=[])
    with pytest.raises(SourceError, match="is listed 2 times"):
        open_source("coco", folder).scan()


def test_missing_field(tmp_path: Path) -> None:
    folder = damaged(tmp_path, "captions_train2017.json", annotations=[{"image_id": 900}])
    with pytest.raises(SourceError, match="lacks `caption`, it has image_id"):
        open_source("coco", folder).scan()


def test_unknown_category(tmp_path: Path) -> None:
    folder = damaged(tmp_path, "instances_train2017.json", categories=[])
    with pytest.raises(SourceError, match="category 0|category 1|category .* is not under"):
        open_source("coco", folder).scan()


def test_no_images(tmp_path: Path) -> None:
    folder = damaged(tmp_path, "captions_train2017.json", images=[], annotations=[])
    with pytest.raises(SourceError, match="lists no images"):
        open_source("coco", folder).scan()
