"""The same small data set in each layout that a source reads."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Made(NamedTuple):
    """What an item should come out as; `split` None where the layout has no place for it."""

    name: str
    captions: tuple[str, ...]
    labels: tuple[str, ...]
    split: str | None


WORDS = ("dog", "cat", "tree", "red", "boat")
SPLITS = ("train", "val", "test", None)


def made(count: int = 11) -> list[Made]:
    """Items with 0 to 3 captions and 0 to 2 labels."""
    return [
        Made(
            f"img{i:03d}",
            tuple(f"a {WORDS[i % 5]} number {i} seen {c} times" for c in range(i % 4)),
            tuple(sorted({WORDS[i % 5], WORDS[(i * 3) % 5]}))[: i % 3],
            SPLITS[i % 4],
        )
        for i in range(count)
    ]


def picture(seed: int, side: int = 40) -> bytes:
    """A JPEG; seeds that differ modulo 16 give other ones."""
    return _picture(seed % 16, side)


@cache
def _picture(seed: int, side: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_captions_folder(folder: Path, items: Sequence[Made]) -> None:
    """images/*.jpg and captions.jsonl."""
    (folder / "images").mkdir(parents=True)
    with (folder / "captions.jsonl").open("w") as listing:
        for number, item in enumerate(items):
            (folder / "images" / f"{item.name}.jpg").write_bytes(picture(number))
            line = {
                "image": f"images/{item.name}.jpg",
                "captions": item.captions,
                "labels": item.labels,
            }
            if item.split:
                line["split"] = item.split
            listing.write(json.dumps(line) + "\n")


def write_tars(folder: Path, items: Sequence[Made], per_tar: int = 4) -> None:
    """part-0000.tar and so on, captions and labels in JSON members."""
    folder.mkdir(parents=True)
    for start in range(0, len(items), per_tar):
        with tarfile.open(folder / f"part-{start // per_tar:04d}.tar", "w") as tar:
            for number, item in enumerate(items[start : start + per_tar], start):
                notes: dict[str, object] = {"captions": item.captions, "labels": item.labels}
                if item.split:
                    notes["split"] = item.split
                add_member(tar, f"{item.name}.jpg", picture(number))
                add_member(tar, f"{item.name}.json", json.dumps(notes).encode())


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Put bytes into a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_coco(folder: Path, items: Sequence[Made], subset: str = "train2017") -> None:
    """annotations/captions_*.json and instances_*.json, annotations out of order."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / subset).mkdir()
    images, captions, instances = [], [], []
    for number, item in enumerate(items):
        (folder / subset / f"{item.name}.jpg").write_bytes(picture(number))
        images.append({"id": 900 - number, "file_name": f"{item.name}.jpg", "license": 3})
        for caption in item.captions:
            captions.append({"image_id": 900 - number, "caption": caption, "id": len(captions)})
        for label in item.labels * 2:  # two boxes of the same thing are one label
            instances.append(
                {"image_id": 900 - number, "category_id": WORDS.index(label), "area": 1.5}
            )
    captions.sort(key=lambda caption: caption["image_id"])
    info = {"info": {"year": 2017, "nested": [1, {"a": "}]"}]}, "licenses": []}
    named = [{"id": i, "name": word} for i, word in enumerate(WORDS)]
    (folder / "annotations" / f"captions_{subset}.json").write_text(
        json.dumps({**info, "annotations": captions, "images": images})
    )
    (folder / "annotations" / f"instances_{subset}.json").write_text(
        json.dumps({**info, "images": images, "annotations": instances, "categories": named})
    )


def write_open_images(folder: Path, items: Sequence[Made]) -> None:
    """CSV files with Open Images' headers, narratives as JSON lines, train/ validation/ test/."""
    subsets = {"train": "train", "val": "validation", "test": "test"}
    lists = ["ImageID,Subset,OriginalURL"]
    labels = ["ImageID,Source,LabelName,Confidence"]
    narratives: list[str] = []
    for number, item in enumerate(items):
        subset = subsets[item.split or "train"]
        (folder / subset).mkdir(parents=True, exist_ok=True)
        (folder / subset / f"{item.name}.jpg").write_bytes(picture(number))
        lists.append(f"{item.name},{subset},http://example.org/x.jpg")
        for word in WORDS:
            labels.append(f"{item.name},verification,/m/{word},{int(word in item.labels)}")
        for caption in item.captions:
            narratives.append(json.dumps({"image_id": item.name, "caption": caption, "traces": []}))
    labels.append("not_listed,verification,/m/dog,1")
    (folder / "image_ids_and_rotation.csv").write_text("\n".join(lists) + "\n")
    (folder / "human-imagelabels.csv").write_text("\n".join(labels) + "\n")
    (folder / "class-descriptions.csv").write_text("".join(f"/m/{word},{word}\n" for word in WORDS))
    (folder / "narratives.jsonl").write_text("".join(line + "\n" for line in narratives))


WRITERS = {
    "captions-folder": write_captions_folder,
    "webdataset": write_tars,
    "coco": write_coco,
    "open-images": write_open_images,
}
"""Kind of source → writer of its layout."""
