"""Where in an image a concept lies, from an artifact's patches; decodes no bytes, draws no colour.

A localiser graph gives a stream's activations split over patches: `acts` is their mean. What a
concept's encoder row reads from them is split with it, so with x = acts, g = encoder row · scale,
    heat_p = g · patch_p / ‖x‖
is each patch's part of the pre-code, and the mean over the patches is the pre-code up to terms that
are the same for every patch (shift and biases: `docs/localisation.md`). No gradient is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open

from koine.artifact import Artifact
from koine.errors import ArtifactError, InputError, UnknownConceptError, UnknownStreamError
from koine.images import resized_size
from koine.manifest import DIRECTIONS
from koine.sessions import Session
from koine.shift_and_stitch import PatchesNPD, shifted, stitched
from koine.streams import ImagePreprocess
from koine.types import ImagesNHWC

MAX_SIDE = 1024
"""Pixels of the longer side of heat maps and overlays; larger images are shown smaller."""
OPACITY = 0.55
_SMALLEST = 1e-12
# Every 32nd colour of viridis (Smith and van der Walt 2015, CC0): lightness rises evenly.
_COLOURS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip

GridGG = Float32[np.ndarray, "G G"]
"""One value per patch, G = side."""
HeatHW = Float32[np.ndarray, "H W"]


class Localised(NamedTuple):
    """A concept's heat over one image."""

    grid_GG: GridGG
    """At the patches: each one's part of the pre-code, in units of the pre-code."""
    heat_HW: HeatHW
    """At the image's own size, or at `MAX_SIDE`; NaN where the encoder's crop does not reach."""
    box: tuple[float, float, float, float]
    """What the grid covers: left, top, right, bottom in pixels of the upright image."""


class Localisers:
    """The localisers of one artifact, each loaded when it is first used. For several threads."""

    def __init__(
        self,
        artifact: Artifact,
        providers: Sequence[str],
        *,
        threads: int = 0,
        gpu: int = 0,
    ) -> None:
        """`providers`, `threads` and `gpu` as `ConceptEncoder` has them. Raises `ArtifactError`."""
        self._artifact, self._manifest = artifact, artifact.manifest
        self._load = partial(Session, providers=providers, threads=threads, gpu=gpu)
        self._specs = {s.spec.name: s.localiser for s in self._manifest.streams if s.localiser}
        self._graphs: dict[str, Session] = {}
        self._loading = Lock()
        self._file: Any = None
        if self._specs:
            path = artifact.file(DIRECTIONS)
            try:
                self._file = safe_open(path, "numpy")
            except (OSError, SafetensorError) as error:
                raise ArtifactError(
                    f"{path} cannot be read: {error}; export the run again"
                ) from error

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams that can be localised in."""
        return tuple(self._specs)

    def choose(self, stream: str | None) -> str:
        """`stream`, or the first that has a localiser. Raises `UnknownStreamError`, or
        `InputError` where there is no localiser."""
        if stream is None:
            if not self._specs:
                raise InputError(
                    "no stream of this dictionary can be localised in: it has no localisers; "
                    "export the run with --localisers, from encoders whose pooling splits"
                )
            return self.streams[0]
        self.spec(stream)
        return stream

    def spec(self, stream: str) -> ImagePreprocess:
        """The stream's preprocessing. Raises `UnknownStreamError`, or `InputError` where the
        stream has no localiser."""
        found = self._manifest.stream(stream)
        if found is None:
            names = ", ".join(s.spec.name for s in self._manifest.streams)
            raise UnknownStreamError(
                f"{stream[:80]!r} is no stream of this dictionary; it has {names}"
            )
        if stream not in self._specs:
            raise InputError(
                f"stream `{stream}` cannot be localised in: it reads no images, has no backbone "
                "here, pools them in a way that cannot be split over patches, or was exported "
                "without localisers; "
                + (f"choose one of {', '.join(self.streams)}" if self.streams else "no stream can")
            )
        assert isinstance(found.spec.preprocess, ImagePreprocess)
        return found.spec.preprocess

    def patches(self, stream: str, images_NHWC: ImagesNHWC) -> PatchesNPD:
        """The activations of preprocessed images, split over patches in rows.

        Raises `ArtifactError` where the graph cannot be loaded.
        """
        self.spec(stream)
        one = self._specs[stream]
        batch_NHWC = shifted(images_NHWC, one.moves, one.stride)
        return stitched(self._graph(stream).run({"image": batch_NHWC})["patches"], one.moves)

    def _graph(self, stream: str) -> Session:
        with self._loading:
            if stream not in self._graphs:
                name = self._specs[stream].graph
                # since it was verified another artifact may have taken the place of this one
                self._artifact.check(name)
                self._graphs[stream] = self._load(self._artifact.file(name))
            return self._graphs[stream]

    def grid(self, stream: str, patches_PD: Float32[np.ndarray, "P D"], concept: int) -> GridGG:
        """Each patch's part of the concept's pre-code. Raises `UnknownConceptError`."""
        check_concept(concept, self._manifest.num_concepts)
        self.spec(stream)
        row_D = self._file.get_slice(stream)[concept]
        norm = max(float(np.linalg.norm(patches_PD.mean(0))), _SMALLEST)
        side = self._specs[stream].side
        return (patches_PD @ row_D / norm).astype(np.float32).reshape(side, side)

    def localise(
        self,
        stream: str,
        patches_PD: Float32[np.ndarray, "P D"],
        concept: int,
        size: tuple[int, int],
    ) -> Localised:
        """The concept's heat over an upright image of `size` (width, height)."""
        grid_GG = self.grid(stream, patches_PD, concept)
        spec = self.spec(stream)
        return Localised(grid_GG, spread(grid_GG, size, spec), crop_box(size, spec))


def check_concept(concept: int, num_concepts: int) -> None:
    """Raises `UnknownConceptError` for an id that the dictionary does not have."""
    if not 0 <= concept < num_concepts:
        raise UnknownConceptError(
            f"concept {concept} is none of this dictionary's; ids go from 0 to {num_concepts - 1}"
        )


def spread(grid_GG: GridGG, size: tuple[int, int], spec: ImagePreprocess) -> HeatHW:
    """A patch grid laid over an image of `size` (width, height), bilinear between patches.

    Resizing and the centred crop are undone; pixels outside the crop are NaN. The longer side has
    at most `MAX_SIDE` pixels.
    """
    width, height = shown_size(size)
    resized = resized_size(size, spec)
    scales = [shown / side for shown, side in zip((width, height), resized, strict=True)]
    corner = [round((side - spec.crop_size) / 2.0) for side in resized]
    left, top = (round(c * s) for c, s in zip(corner, scales, strict=True))
    right, bottom = (round((c + spec.crop_size) * s) for c, s in zip(corner, scales, strict=True))
    heat_HW = np.full((height, width), np.nan, np.float32)
    box = (max(1, right - left), max(1, bottom - top))
    part = Image.fromarray(grid_GG).resize(box, Image.Resampling.BILINEAR)
    inner_HW = np.asarray(part, np.float32)[: height - top, : width - left]
    heat_HW[top : top + inner_HW.shape[0], left : left + inner_HW.shape[1]] = inner_HW
    return heat_HW


def crop_box(size: tuple[int, int], spec: ImagePreprocess) -> tuple[float, float, float, float]:
    """What the encoder sees of an image of `size`: left, top, right, bottom in its pixels."""
    resized = resized_size(size, spec)
    scales = [own / side for own, side in zip(size, resized, strict=True)]
    corner = [round((side - spec.crop_size) / 2.0) for side in resized]
    left, top = (c * s for c, s in zip(corner, scales, strict=True))
    right, bottom = ((c + spec.crop_size) * s for c, s in zip(corner, scales, strict=True))
    return left, top, right, bottom


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the heat map of an image of `size`."""
    shrink = min(1.0, MAX_SIDE / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def normalised(heat_HW: HeatHW) -> HeatHW:
    """Heat from 0 at its least to 1 at its largest; zeros where it is flat. NaN stays."""
    least, most = float(np.nanmin(heat_HW)), float(np.nanmax(heat_HW))
    return (heat_HW - np.float32(least)) / np.float32(max(most - least, _SMALLEST))


def overlay(image: Image.Image, heat_HW: HeatHW) -> Image.Image:
    """The image under its heat in viridis, from least to largest; outside the crop it is grey."""
    height, width = heat_HW.shape
    shown_HWC = np.asarray(image.convert("RGB").resize((width, height)), np.float32)
    grey_HW1 = shown_HWC.mean(2, keepdims=True)
    inside_HW1 = np.isfinite(heat_HW)[:, :, None]
    colour_HWC = colours(np.nan_to_num(normalised(heat_HW))).astype(np.float32)
    mixed_HWC = (1 - OPACITY) * grey_HW1 + OPACITY * colour_HWC
    painted_HWC: Float32[np.ndarray, "H W 3"] = np.array(
        np.where(inside_HW1, mixed_HWC, grey_HW1 / 2), np.float32
    )
    return Image.fromarray(painted_HWC.round().astype(np.uint8))


def colours(share_HW: HeatHW) -> UInt8[np.ndarray, "H W 3"]:
    """Shares from 0 to 1 as colours whose lightness rises evenly."""
    table_V3 = np.array(_COLOURS, np.float32)
    places = np.linspace(0, 1, len(table_V3))
    channels = [np.interp(share_HW, places, table_V3[:, c]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)
