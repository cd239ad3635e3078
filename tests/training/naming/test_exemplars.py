"""Items that show a concept, and thumbnails of real files, of which some are damaged or missing."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csr_array

from koine.concepts import Exemplar
from koine.errors import ImageError
from training.activations import Row
from training.naming.exemplars import SIDE, exemplars, thumbnail, with_thumbnails
from training.naming.seen import Seen
from training.progress import progress
from training.sources.captions_folder import LISTING, CaptionsFolder


def seen(a_NC: list[list[float]], b_NC: list[list[float]], b_has: list[int]) -> Seen:
    rows = [Row(f"item{n}", (f"caption {n}", "another"), (), "train") for n in range(len(a_NC))]
    return Seen(
        np.arange(len(rows)),
        rows,
        {"a": np.arange(len(rows)), "b": np.array(b_has)},
        {"a": csr_array(np.array(a_NC)), "b": csr_array(np.array(b_NC))},
    )


def test_streams_take_turns_and_no_item_comes_twice() -> None:
    found = exemplars(seen([[1, 0], [4, 0], [3, 0], [2, 0]], [[5, 0], [6, 0]], [1, 3]), 3)
    assert [(e.item, e.stream, e.value) for e in found[0]] == [
        *(("item1", "a", 4), ("item3", "b", 6), ("item2", "a", 3))
    ]
    assert found[0][0].caption == "caption 1"
    assert found[1] == []  # it never fires


def test_a_stream_that_has_no_more_leaves_its_turn() -> None:
    found = exemplars(seen([[1], [4], [3], [2]], [[5]], [1]), 4)[0]
    assert [(e.item, e.stream) for e in found] == [
        *(("item1", "a"), ("item2", "a"), ("item3", "a"), ("item0", "a"))
    ]
    assert len(exemplars(seen([[1], [4], [3], [2]], [[5]], [1]), 2)[0]) == 2


def jpeg(side: int, colour: tuple[int, int, int] = (10, 200, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side // 2), colour).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize("side", [40, 1000])
def test_a_thumbnail_is_small_and_keeps_its_shape(side: int) -> None:
    small = Image.open(io.BytesIO(thumbnail(jpeg(side))))
    assert small.format == "JPEG"
    assert small.size == (min(side, SIDE), min(side, SIDE) // 2)


def test_no_image_is_told() -> None:
    with pytest.raises(ImageError):
        thumbnail(b"no image")


def test_thumbnails_are_kept_once_and_lost_ones_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, data in {
        "one": jpeg(300),
        "twin": jpeg(300),
        "other": jpeg(300, (200, 0, 0)),
        "damaged": jpeg(300)[:200],
        "unasked": jpeg(300, (0, 0, 200)),
    }.items():
        (folder / f"{name}.jpg").write_bytes(data)
    names = ("one", "twin", "other", "damaged", "unasked")
    lines = [json.dumps({"id": name, "image": f"{name}.jpg"}) for name in names]
    (folder / LISTING).write_text("\n".join(lines))
    source = CaptionsFolder(folder)
    wanted = ["one", "twin", "other", "damaged", "nowhere"]
    chosen = [[Exemplar(item=item, stream="a", value=1) for item in wanted], []]
    with progress(None, "thumbnails") as bar:
        found = with_thumbnails(chosen, source, tmp_path / "first.zip", bar)
        assert with_thumbnails(chosen, source, tmp_path / "second.zip", bar) == found
    shown = [each.thumbnail for each in found[0]]
    assert shown[0] == shown[1] is not None
    assert shown[2] not in (None, shown[0])
    assert shown[3:] == [None, None]
    assert found[1] == []
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        assert sorted(archive.namelist()) == sorted({str(shown[0]), str(shown[2])})
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert Image.open(io.BytesIO(archive.read(str(shown[2])))).size == (SIDE, SIDE // 2)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    assert "no thumbnail for 2 of 5 exemplars" in caplog.text
