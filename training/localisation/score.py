"""Heat maps against the demo corpus' masks, beside baselines; draws nothing, names no concept.

A label's concept is the one that fits it best on the training rows, as `evaluate` found it. A map
is normalised over its image, 0 to 1; one threshold per method, chosen on the training images, makes
it a mask. mIoU is the mean over pairs of image and true label (shapes, colours, textures), AP@0.2
the share of pairs with an IoU of 0.2 or more, pointing the share whose hottest pixel is right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from koine.errors import SourceError
from koine.shift_and_stitch import shifted, stitched
from training.checkpoint import load_model
from training.demo import vocabulary
from training.demo.streams import ENCODERS, STREAMS
from training.encoders.load import load_encoder
from training.localisation.patches import PatchModule, patch_module
from training.localisation.reference import last_map, relevancy
from training.model import Stream
from training.unit import unit

LABELS = (*vocabulary.SHAPES, *vocabulary.COLOURS, *vocabulary.TEXTURES)
THRESHOLDS = np.linspace(0.05, 0.95, 19)
SMALLEST_MASK = 8
"""Pixels below which what one sees of an object is left out."""
_BATCH = 25


class Scene(NamedTuple):
    """One image and where its labels are true."""

    image_HWC: UInt8[np.ndarray, "H W 3"]
    masks: dict[str, Bool[np.ndarray, "H W"]]


class Score(NamedTuple):
    """How well one method's maps lie on the masks."""

    threshold: float
    miou: float
    ap20: float
    pointing: float
    pairs: int


Maps = Mapping[str, Float[np.ndarray, "N H W"]]
"""By label, a map for each scene."""


def score_run(run: Path, corpus: Path, images: int) -> dict[str, Score]:
    """Every method's score on `images` test images, thresholds from half as many training images.

    Raises `SourceError` where the run has no report with labels or the corpus is not the demo's.
    """
    chosen = _concepts(run)
    train, test = (_scenes(corpus, *which) for which in (("train", images // 2), ("test", images)))
    model = load_model(run)
    scores: dict[str, Score] = {}
    for stream, concepts in chosen.items():
        module = patch_module(load_encoder(STREAMS[stream], ENCODERS))
        assert module is not None
        for method, make in _methods(stream, model.of(stream), module, concepts).items():
            scores[f"{stream} {method}"] = judged(make(train), make(test), train, test)
    labels = sorted(set().union(*chosen.values()))
    for method, make in _blind(labels).items():
        scores[method] = judged(make(train), make(test), train, test)
    return scores


def judged(train_maps: Maps, maps: Maps, train: list[Scene], test: list[Scene]) -> Score:
    """Maps of the test scenes at the threshold that is best on the training scenes."""
    best = int(_measured(train_maps, train)[0].mean(0).argmax())
    iou_MT, right_M = _measured(maps, test)
    iou_M = iou_MT[:, best]
    return Score(
        float(THRESHOLDS[best]),
        float(iou_M.mean()),
        float((iou_M >= 0.2).mean()),
        float(right_M.mean()),
        len(iou_M),
    )


def _measured(maps: Maps, scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """IoU of each pair of scene and label at each threshold, and whether the hottest is right."""
    ious, right = [], []
    for n, scene in enumerate(scenes):
        for label, mask_HW in scene.masks.items():
            if label not in maps:
                continue
            heat_HW = maps[label][n]
            heat_HW = (heat_HW - heat_HW.min()) / max(1e-12, float(np.ptp(heat_HW)))
            hot_THW = heat_HW >= THRESHOLDS[:, None, None]
            both_T = (hot_THW & mask_HW).sum((1, 2))
            ious.append(both_T / (hot_THW | mask_HW).sum((1, 2)))
            right.append(bool(mask_HW.flat[int(heat_HW.argmax())]))
    return np.array(ious), np.array(right)


def _concepts(run: Path) -> dict[str, dict[str, int]]:
    """Label → concept, by image stream."""
    try:
        recovery = json.loads((run / "report.json").read_bytes())["independent"]["label_recovery"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SourceError(
            f"{run} has no report that says which concept fits which label; run "
            f"`python -m training evaluate {run}` on the demo's run first"
        ) from None
    images = [name for name, config in STREAMS.items() if config.modality == "image"]
    return {
        name: {e["label"]: e["concept"] for e in recovery[name]["labels"] if e["label"] in LABELS}
        for name in images
        if name in recovery
    }


def _scenes(corpus: Path, split: str, count: int) -> list[Scene]:
    try:
        lines = (corpus / "captions.jsonl").read_text("utf-8").splitlines()
        entries = [entry for entry in map(json.loads, lines) if entry["split"] == split]
        return [_scene(corpus, entry["image"]) for entry in entries[:count]]
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"{corpus} is no demo corpus with masks: {error}; draw it with `demo`"
        ) from None


def _scene(corpus: Path, image: str) -> Scene:
    stored = np.load(corpus / "masks" / f"{Path(image).stem}.npz", allow_pickle=False)
    masks_OHW, attributes_OA = stored["masks_OHW"], stored["attributes_OA"]
    masks = {
        label: masks_OHW[(attributes_OA == label).any(1)].any(0)
        for label in LABELS
        if (attributes_OA == label).any()
    }
    seen = {label: mask for label, mask in masks.items() if mask.sum() >= SMALLEST_MASK}
    with Image.open(corpus / image) as opened:
        return Scene(np.array(opened.convert("RGB")), seen)


def _methods(
    stream: str, weights: Stream, module: PatchModule, concepts: dict[str, int]
) -> dict[str, Callable[[list[Scene]], Maps]]:
    labels = list(concepts)
    rows_LD = weights.encoder_CD.detach()[list(concepts.values())]
    plain = patch_module(load_encoder(STREAMS[stream], ENCODERS), moves=1)
    assert plain is not None

    def reference(used: PatchModule, scenes: list[Scene]) -> Maps:
        """Gradients, on the same moved images."""
        maps = [_moved_map(used, batch) for batch in _batches(scenes)]
        return {
            label: _large(torch.cat([_stitched(used, weights, m, c) for m in maps]))
            for label, c in concepts.items()
        }

    methods = {
        "served": lambda scenes: _linear(module, scenes, labels, rows_LD),
        "served, image not moved": lambda scenes: _linear(plain, scenes, labels, rows_LD),
        "reference": partial(reference, module),
        "reference, image not moved": partial(reference, plain),
    }
    if stream == "clip_image":
        encoder = load_encoder(STREAMS["clip_text"], ENCODERS)
        texts_LD = unit(torch.from_numpy(encoder.activations(encoder.prepare(labels))))
        for name, used in (("", module), (", image not moved", plain)):
            methods["CLIP similarity" + name] = lambda scenes, used=used: _linear(
                used, scenes, labels, texts_LD, cosine=True
            )
    return methods


def _moved_map(module: PatchModule, images_NHWC: torch.Tensor) -> torch.Tensor:
    moved_NHWC = shifted(images_NHWC.numpy(), module.moves, module.stride)
    return last_map(module, torch.from_numpy(moved_NHWC))


def _stitched(
    module: PatchModule, weights: Stream, map_NCHW: torch.Tensor, concept: int
) -> torch.Tensor:
    heat_NP1 = relevancy(module, weights, map_NCHW, concept).flatten(1)[:, :, None]
    fine_NP1 = torch.from_numpy(stitched(heat_NP1.numpy(), module.moves))
    return fine_NP1[:, :, 0].unflatten(1, (module.side, module.side))


@torch.no_grad()
def _linear(
    module: PatchModule,
    scenes: list[Scene],
    labels: list[str],
    rows_LD: torch.Tensor,
    *,
    cosine: bool = False,
) -> Maps:
    """Patches · rows; the image's norm, the same for all its patches, does not move a map."""
    batches = [module.fine(batch.numpy()) for batch in _batches(scenes)]
    patches_NPD = torch.from_numpy(np.concatenate(batches))
    heat_NPL = (unit(patches_NPD) if cosine else patches_NPD) @ rows_LD.T
    side = round(patches_NPD.shape[1] ** 0.5)
    return {
        label: _large(heat_NPL[:, :, n].unflatten(1, (side, side)))
        for n, label in enumerate(labels)
    }


def _blind(labels: list[str]) -> dict[str, Callable[[list[Scene]], Maps]]:
    """Methods that do not look."""
    rng = np.random.default_rng(0)

    def centre(scenes: list[Scene]) -> Maps:
        height, width = scenes[0].image_HWC.shape[:2]
        down_HW, across_HW = np.mgrid[:height, :width]
        far_HW = np.hypot(down_HW - (height - 1) / 2, across_HW - (width - 1) / 2)
        return dict.fromkeys(labels, np.tile(-far_HW, (len(scenes), 1, 1)))

    def random(scenes: list[Scene]) -> Maps:
        shape = (len(scenes), 8, 8)
        return {label: _large(torch.from_numpy(rng.random(shape))) for label in labels}

    return {"centre": centre, "random": random}


def _batches(scenes: list[Scene]) -> list[torch.Tensor]:
    images_NHWC = torch.from_numpy(np.stack([scene.image_HWC for scene in scenes]))
    return list(images_NHWC.split(_BATCH))


def _large(heat_NHW: torch.Tensor) -> np.ndarray:
    large = torch.nn.functional.interpolate(
        heat_NHW[:, None], size=(64, 64), mode="bilinear", align_corners=False
    )
    return large[:, 0].numpy()
