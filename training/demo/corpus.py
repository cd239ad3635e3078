"""The demo corpus as a folder: images, captions, labels and masks, the same bytes for a seed.

    FOLDER/corpus.json          schema, seed and size; there only when the corpus is whole
    FOLDER/captions.jsonl       {"image", "captions", "labels", "split"}, one line an image
    FOLDER/images/00000.png     64 by 64 pixels, RGB
    FOLDER/masks/00000.npz      masks_OHW: bool, what one sees of each object;
                                attributes_OA: its shape, colour, texture and size, as text

Item i depends on the seed and i alone, so a larger corpus begins with the smaller one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from koine.errors import SourceError
from training.demo.captions import write_captions
from training.demo.painting import Painting, paint
from training.demo.scenes import SIDE, Scene, draw_scene, labels_of
from training.progress import progress

SCHEMA = "koine.demo-corpus/1"
CORPUS_SEED = 7
"""Seed of the corpus that the demo aligns; the encoders were trained on another."""


class Item(NamedTuple):
    """One captioned scene."""

    scene: Scene
    painting: Painting
    captions: list[str]
    """The first names every object and the background, the others a part of the truth."""
    labels: tuple[str, ...]
    """Everything of `vocabulary.LABELS` that is true."""
    split: str
    """`train` for eight of ten items, then one `val` and one `test`."""


def make_item(seed: int, index: int) -> Item:
    """Item `index` of the corpus of a seed."""
    rng = np.random.default_rng((seed, index))
    scene = draw_scene(rng)
    painting = paint(scene, rng)
    split = {8: "val", 9: "test"}.get(index % 10, "train")
    return Item(scene, painting, write_captions(scene, rng), labels_of(scene), split)


def write_corpus(folder: Path, *, num_images: int, seed: int = CORPUS_SEED) -> Path:
    """Write the corpus to `folder`, or leave it where it is there already; returns `folder`.

    A corpus interrupted half way is made anew. Raises SourceError where `folder` holds something
    else.
    """
    if num_images < 1 or seed < 0:
        raise SourceError(
            f"a corpus needs at least one image and a seed of 0 or more, got {num_images} images "
            f"and seed {seed}"
        )
    wanted = {"schema": SCHEMA, "seed": seed, "num_images": num_images}
    if folder.exists():
        _check_same(folder, wanted)
        return folder
    unfinished = folder.with_name(f".{folder.name}.tmp")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    for part in ("images", "masks"):
        (unfinished / part).mkdir(parents=True)
    with (
        (unfinished / "captions.jsonl").open("w", encoding="utf-8") as lines,
        progress(num_images, "painting scenes") as bar,
    ):
        for index in range(num_images):
            lines.write(_write_item(unfinished, index, make_item(seed, index)) + "\n")
            bar.advance()
    (unfinished / "corpus.json").write_text(json.dumps(wanted) + "\n", encoding="utf-8")
    os.replace(unfinished, folder)
    return folder


def contact_sheet(
    images_NHWC: Sequence[UInt8[np.ndarray, "H W 3"]], columns: int, scale: int = 1
) -> Image.Image:
    """Images of one corpus side by side with a white gap, each `scale` times its size."""
    rows = -(-len(images_NHWC) // columns)
    cell = SIDE + 2
    sheet_HWC = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for place, image_HWC in enumerate(images_NHWC):
        top, left = place // columns * cell + 1, place % columns * cell + 1
        sheet_HWC[top : top + SIDE, left : left + SIDE] = image_HWC
    sheet = Image.fromarray(sheet_HWC)
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)


def _check_same(folder: Path, wanted: dict[str, str | int]) -> None:
    marker = folder / "corpus.json"
    found = json.loads(marker.read_text("utf-8")) if marker.is_file() else None
    if found != wanted:
        holds = f"a corpus made with {found}" if found else "something that is no finished corpus"
        raise SourceError(
            f"{folder} holds {holds}, wanted {wanted}: delete it or name another folder"
        )


def _write_item(folder: Path, index: int, item: Item) -> str:
    """Write an item's image and masks; its line of captions.jsonl."""
    image = f"images/{index:05d}.png"
    Image.fromarray(item.painting.image_HWC).save(folder / image, compress_level=4)
    attributes = [(o.shape, o.colour, o.texture, o.size) for o in item.scene.objects]
    np.savez_compressed(
        folder / f"masks/{index:05d}.npz",
        masks_OHW=item.painting.masks_OHW,
        attributes_OA=np.array(attributes),
    )
    line = {
        "image": image,
        "captions": item.captions,
        "labels": list(item.labels),
        "split": item.split,
    }
    return json.dumps(line, ensure_ascii=False)
