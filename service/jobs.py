"""What one item asks for, and the batches that are made of such items; knows no HTTP, no queue."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32

from koine.codes import PAD, Codes
from koine.encoder import ConceptEncoder
from koine.errors import ActivationsError, ImageError, InputError, TextError, UnknownStreamError
from koine.images import decode_image
from koine.sessions import CPU
from koine.streams import ImagePreprocess, TextPreprocess
from koine.texts import Tokens
from koine.types import ActsND, ImageHWC, Mode

Source = Literal["image", "text", "activations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to encode, as it came."""

    id: str
    image: str | bytes | None = None
    """A file's bytes, or those bytes in base64."""
    text: str | None = None
    activations: Mapping[str, Float[np.ndarray, "D"]] = field(default_factory=dict[str, np.ndarray])
    error: InputError | None = None
    """Set where the item cannot be read: it is answered with this."""

    @property
    def modality(self) -> str:
        """The item's label in the metrics."""
        if self.image is not None and self.text is not None:
            return "image_text"
        if self.image is not None or self.text is not None:
            return "image" if self.image is not None else "text"
        return "activations" if self.activations else "unknown"


class Row(NamedTuple):
    """One item's codes in one stream, a row of `Codes`."""

    indices_K: Int32[np.ndarray, "K"]
    values_K: Float32[np.ndarray, "K"]
    fvu: float

    @property
    def active_K(self) -> Int32[np.ndarray, "K"]:
        """The concepts alone, without pads."""
        return self.indices_K[self.indices_K != PAD]


class Selection(NamedTuple):
    """What the dictionary heads need of one item."""

    acts: dict[str, Float32[np.ndarray, "D"]]
    mode: Mode


def streams_by_source(
    item: Item, wanted: Sequence[str] | None, encoder: ConceptEncoder
) -> dict[Source, list[str]]:
    """The streams of the item's answer, by what of the item they come from.

    Given activations go before the item's image or text. Raises `UnknownStreamError`, or
    `InputError` where no stream fits.
    """
    for name in item.activations:
        if name not in encoder.streams:
            raise unknown_stream(name, encoder)
    found: dict[Source, list[str]] = {}
    for name in encoder.streams if wanted is None else wanted:
        if name in item.activations:
            found.setdefault("activations", []).append(name)
            continue
        reads = encoder.streams[name].modality if readable(encoder, name) else "vector"
        if reads == "image" and item.image is not None:
            found.setdefault("image", []).append(name)
        elif reads == "text" and item.text is not None:
            found.setdefault("text", []).append(name)
    if not found:
        raise _nothing_fits(item, wanted, encoder)
    return found


def readable(encoder: ConceptEncoder, name: str) -> bool:
    """Whether the artifact holds the stream's backbone."""
    stream = encoder.artifact.manifest.stream(name)
    return stream is not None and stream.backbone is not None


def unknown_stream(name: str, encoder: ConceptEncoder) -> UnknownStreamError:
    """The error for a stream that the dictionary does not have."""
    return UnknownStreamError(
        f"{name!r} is no stream of this dictionary; it has {', '.join(encoder.streams)}"
    )


def _nothing_fits(item: Item, wanted: Sequence[str] | None, encoder: ConceptEncoder) -> InputError:
    has = [
        what
        for what, value in (
            ("an image", item.image), ("a text", item.text),
            ("activations", item.activations or None),
        )
        if value is not None
    ]  # fmt: skip
    reads = ", ".join(
        f"`{name}` ({encoder.streams[name].modality if readable(encoder, name) else 'activations'})"
        for name in (encoder.streams if wanted is None else wanted)
    )
    return InputError(
        f"the item has {' and '.join(has)}, which none of the streams asked for reads; they are "
        f"{reads}. Ask for another stream, or send the activations of one of these"
    )


def image_bytes(image: str | bytes) -> bytes:
    """The file's bytes. Raises `ImageError` for what is no base64."""
    if isinstance(image, bytes):
        return image
    if image[:64].lower().startswith(("http:", "https:", "file:", "data:", "s3:")):
        raise ImageError(
            f"`image` must be the file's bytes in base64, got a URL ({image[:32]!r}…); this "
            "service fetches nothing: send the bytes"
        )
    try:
        return base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(
            f"`image` must be the file's bytes in base64, got {len(image)} characters that are "
            "not; encode the bytes with standard base64"
        ) from None


def read_image(
    image: str | bytes,
    names: Sequence[str],
    encoder: ConceptEncoder,
    max_pixels: int,
    jpeg_shrink: int = 0,
) -> dict[str, ImageHWC]:
    """The pixels that each of the streams reads, from one decoding. Raises `ImageError`.

    `jpeg_shrink`: as the setting says.
    """
    specs = [encoder.streams[name].preprocess for name in names]
    sides = [spec.resize_size for spec in specs if isinstance(spec, ImagePreprocess)]
    keep_side = jpeg_shrink * max(sides) if jpeg_shrink and sides else None
    decoded = decode_image(image_bytes(image), max_pixels=max_pixels, keep_side=keep_side)
    made: dict[object, ImageHWC] = {}  # streams often share their preprocessing
    for name in names:
        spec = encoder.streams[name].preprocess
        if spec not in made:
            made[spec] = encoder.preprocess(name, decoded)
    return {name: made[encoder.streams[name].preprocess] for name in names}


def read_text(
    text: str, names: Sequence[str], encoder: ConceptEncoder, max_chars: int
) -> dict[str, Tokens]:
    """The tokens that each of the streams reads. Raises `TextError`."""
    if len(text) > max_chars:
        raise TextError(
            f"the text has {len(text)} characters, the limit is {max_chars}; shorten it"
        )
    return {name: encoder.tokenize(name, [text]) for name in names}


def read_activations(
    values_D: Float[np.ndarray, "D"], name: str, encoder: ConceptEncoder
) -> Float32[np.ndarray, "D"]:
    """The item's row of one stream. Raises `ActivationsError`."""
    d_in = encoder.streams[name].d_in
    if len(values_D) != d_in:
        raise ActivationsError(
            f"stream `{name}` takes {d_in} activations per item, got {len(values_D)}"
        )
    with np.errstate(over="ignore"):
        acts_D = np.asarray(values_D, np.float32)
    if not np.isfinite(acts_D).all():
        odd = int((~np.isfinite(acts_D)).sum())
        raise ActivationsError(
            f"the activations of stream `{name}` have {odd} values that are NaN, infinite or "
            "beyond float32; send finite numbers"
        )
    return acts_D


def backbone_batch(
    name: str, batch: Sequence[ImageHWC | Tokens], encoder: ConceptEncoder
) -> ActsND:
    """Activations of images or texts that share a stream."""
    missing = _missing_to_bucket(len(batch), encoder.provider)
    filled = [*batch, *[batch[-1]] * missing]
    return _activations(name, filled, encoder)[: len(batch)]


def _missing_to_bucket(items: int, provider: str) -> int:
    """What is missing to the next power of two, on a GPU: a new batch size costs it a search for
    kernels and new memory, a filled one little. A CPU would only compute more."""
    return 0 if provider == CPU else (1 << (items - 1).bit_length()) - items


def _activations(name: str, batch: Sequence[ImageHWC | Tokens], encoder: ConceptEncoder) -> ActsND:
    tokens = [item for item in batch if isinstance(item, Tokens)]
    if not tokens:
        return encoder.activations(name, np.stack([np.asarray(item) for item in batch]))
    spec = encoder.streams[name].preprocess
    assert isinstance(spec, TextPreprocess)
    width = max(item.ids_NT.shape[1] for item in tokens)
    return encoder.activations(
        name,
        Tokens(
            _widened([item.ids_NT for item in tokens], width, spec.pad_id),
            _widened([item.mask_NT for item in tokens], width, 0),
        ),
    )


def _widened(rows: Sequence[np.ndarray], width: int, fill: int) -> np.ndarray:
    wide_NT = np.full((len(rows), width), fill, np.int64)
    for n, row_1T in enumerate(rows):
        wide_NT[n, : row_1T.shape[1]] = row_1T[0]
    return wide_NT


def select_batch(batch: Sequence[Selection], encoder: ConceptEncoder) -> list[dict[str, Row]]:
    """Codes of items of any streams and modes: one call for each mode that occurs."""
    answers: list[dict[str, Row]] = [{} for _ in batch]
    for mode in ("independent", "joint"):
        places = [n for n, item in enumerate(batch) if item.mode == mode]
        if places:
            items = [batch[n] for n in places]
            for n, rows in zip(places, _select(items, mode, encoder), strict=True):
                answers[n] = rows
    return answers


def _select(
    items: Sequence[Selection], mode: Mode, encoder: ConceptEncoder
) -> list[dict[str, Row]]:
    present_NS = np.array([[name in item.acts for name in encoder.streams] for item in items])
    acts: dict[str, ActsND] = {}
    for s, (name, spec) in enumerate(encoder.streams.items()):
        if present_NS[:, s].any():
            absent_D = np.zeros(spec.d_in, np.float32)
            acts[name] = np.stack([item.acts.get(name, absent_D) for item in items])
    codes = encoder.encode(acts, mode, present_NS)
    return [
        {name: _row(codes[name], n) for name in encoder.streams if name in item.acts}
        for n, item in enumerate(items)
    ]


def _row(codes: Codes, n: int) -> Row:
    return Row(codes.indices_NK[n], codes.values_NK[n], float(codes.fvu_N[n]))
