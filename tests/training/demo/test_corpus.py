"""The corpus: same seed, same bytes; masks, labels and captions say the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koine.errors import SourceError
from training.demo.corpus import Item, contact_sheet, make_item, write_corpus
from training.demo.vocabulary import LABELS, RGB

SEED = 11


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [make_item(SEED, index) for index in range(2000)]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path):
    first, second, other = (
        _bytes(write_corpus(tmp_path / name, num_images=12, seed=seed))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == second
    assert all(other[f"images/{i:05d}.png"] != first[f"images/{i:05d}.png"] for i in range(12))


def test_a_larger_corpus_begins_with_the_smaller_one(tmp_path: Path):
    small, large = (
        _bytes(write_corpus(tmp_path / str(size), num_images=size, seed=3)) for size in (5, 9)
    )
    assert large["captions.jsonl"].startswith(small["captions.jsonl"])
    assert all(large[name] == small[name] for name in small if name.startswith(("images", "masks")))


def test_a_corpus_is_the_folder_format_that_extract_reads(tmp_path: Path):
    folder = write_corpus(tmp_path / "corpus", num_images=20, seed=SEED)
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"image", "captions", "labels", "split"}] * 20
    assert Counter(line["split"] for line in lines) == {"train": 16, "val": 2, "test": 2}
    for index, line in enumerate(lines):
        item = make_item(SEED, index)
        with Image.open(folder / line["image"]) as image:
            np.testing.assert_array_equal(np.asarray(image), item.painting.image_HWC)
        assert line["captions"] == item.captions
        assert len(set(line["captions"])) == 5
        with np.load(folder / f"masks/{index:05d}.npz", allow_pickle=False) as masks:
            np.testing.assert_array_equal(masks["masks_OHW"], item.painting.masks_OHW)
            named = [(o.shape, o.colour, o.texture, o.size) for o in item.scene.objects]
            assert [tuple(row) for row in masks["attributes_OA"].tolist()] == named


def test_a_half_written_corpus_is_made_anew(tmp_path: Path):
    whole = _bytes(write_corpus(tmp_path / "whole", num_images=6, seed=3))
    (tmp_path / ".torn.tmp/images").mkdir(parents=True)
    (tmp_path / ".torn.tmp/captions.jsonl").write_text('{"image": "images/000')
    (tmp_path / ".torn.tmp/images/00099.png").write_bytes(b"left over")
    assert _bytes(write_corpus(tmp_path / "torn", num_images=6, seed=3)) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn", "whole"]


def test_a_finished_corpus_is_left_alone(tmp_path: Path):
    folder = write_corpus(tmp_path / "corpus", num_images=4, seed=3)
    before = (folder / "captions.jsonl").stat().st_mtime_ns
    write_corpus(folder, num_images=4, seed=3)
    assert (folder / "captions.jsonl").stat().st_mtime_ns == before


def test_other_things_in_the_folder_are_never_overwritten(tmp_path: Path):
    folder = write_corpus(tmp_path / "corpus", num_images=4, seed=3)
    with pytest.raises(SourceError, match="'seed': 3.*wanted.*'seed': 5.*delete it or name"):
        write_corpus(folder, num_images=4, seed=5)
    (tmp_path / "mine").mkdir()
    with pytest.raises(SourceError, match="no finished corpus.*delete it or name another folder"):
        write_corpus(tmp_path / "mine", num_images=4)
    with pytest.raises(SourceError, match="at least one image.*got 0 images"):
        write_corpus(tmp_path / "none", num_images=0)


def test_at_least_sixty_concepts_occur_with_a_moderately_long_tail(items: list[Item]):
    counts = Counter(label for item in items for label in item.labels)
    assert set(counts) == set(LABELS)
    assert len(LABELS) == len(set(LABELS)) >= 60
    assert min(counts.values()) >= 0.02 * len(items)
    assert max(counts.values()) <= 0.75 * len(items)
    assert sorted(counts.values())[len(LABELS) // 4] < 0.1 * len(items)


def test_masks_show_each_object_in_its_colour_and_never_overlap(items: list[Item]):
    names = list(RGB)
    palette_CV = np.array([RGB[name] for name in names], float)
    for item in items[:500]:
        image_HWC, masks_OHW = item.painting
        assert masks_OHW.sum(0).max() <= 1
        for thing, mask_HW in zip(item.scene.objects, masks_OHW, strict=True):
            assert mask_HW.sum() >= 12, thing
            if thing.texture == "solid" and mask_HW.sum() >= 60:
                median_V = np.median(image_HWC[mask_HW], axis=0)
                nearest = names[int(np.argmin(((palette_CV - median_V) ** 2).sum(1)))]
                assert nearest == thing.colour, (thing, median_V)


def test_labels_name_what_the_masks_hold(items: list[Item]):
    for item in items[:500]:
        things = item.scene.objects
        number = ("one object", "two objects", "three objects", "four objects")
        assert number[len(item.painting.masks_OHW) - 1] in item.labels
        for attribute in ("shape", "colour", "texture", "size"):
            assert {getattr(thing, attribute) for thing in things} <= set(item.labels)
        rows = [np.argwhere(mask_HW).mean(0) / 64 for mask_HW in item.painting.masks_OHW]
        if len(things) == 1 and things[0].shape in ("circle", "square", "ring", "hexagon"):
            assert ("top" in item.labels) == (things[0].y / 64 < 0.28)
            np.testing.assert_allclose(rows[0], (things[0].y / 64, things[0].x / 64), atol=0.02)


def test_a_contact_sheet_holds_every_image(items: list[Item]):
    images = [item.painting.image_HWC for item in items[:5]]
    sheet = contact_sheet(images, columns=3, scale=2)
    assert sheet.size == (2 * 3 * 66, 2 * 2 * 66)
    np.testing.assert_array_equal(np.asarray(sheet)[2:130:2, 2:130:2], images[0])
