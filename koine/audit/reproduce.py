"""Encodes an input again and compares with what an entry says was answered; serves nobody."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from koine.artifact import Artifact
from koine.audit.entries import Entry, event_of, read_entry
from koine.audit.events import MICRO, ActiveConcept, EncodeEvent, content_digest
from koine.audit.segments import lines, read_header, segments_of
from koine.codes import PAD, Codes
from koine.encoder import ConceptEncoder
from koine.errors import RequestError
from koine.images import decode_image
from koine.streams import ImagePreprocess
from koine.types import ActsND

RELATIVE, ABSOLUTE = 1e-3, 2e-5
"""How far values may be apart: float32 sums in another order, of another batch or provider (the
parity ladder's bound), and half a millionth of rounding."""


class Reproduced(NamedTuple):
    """One stream of the entry beside what it is encoded to now."""

    stream: str
    recorded: tuple[ActiveConcept, ...]
    indices: list[int]
    values: list[float]
    same: bool
    """Same concepts in the same order but for ties, and values within the tolerance."""


def find_entry(name: str) -> Entry:
    """The entry at `LOG/WRITER:SEQUENCE`, or in a file that holds its line.

    Raises `RequestError` where there is none.
    """
    path = Path(name)
    if path.is_file():
        try:
            return read_entry(path.read_bytes().strip())
        except ValueError as error:
            raise RequestError(f"{path} holds no entry of an audit log: {error}") from error
    folder, _, number = name.rpartition(":")
    if not folder or not number.isdigit():
        raise RequestError(f"{name!r} names no entry; give LOG/WRITER:SEQUENCE or a file")
    segments = [p for p in segments_of(Path(folder)) if int(p.stem) <= int(number)]
    if segments:
        with segments[-1].open("rb") as file:
            read_header(segments[-1], file)
            for line in lines(file):
                if f'"sequence":{number},'.encode() in line.raw:
                    return read_entry(line.raw)
    raise RequestError(f"{folder} holds no entry {number}; it may be past its retention")


def reproduce(entry: Entry, inputs: list[Path], artifact: Artifact) -> list[Reproduced]:
    """Encodes `inputs` by the streams of an entry of kind `encode`.

    Raises `RequestError` where the dictionary or the content is not the one recorded.
    """
    event = event_of(entry)
    if not isinstance(event, EncodeEvent):
        raise RequestError(f"entry {entry.sequence} is of kind {event.kind}, not `encode`")
    if event.outcome != "ok" or not event.codes:
        raise RequestError(f"entry {entry.sequence} has no codes: its outcome is {event.outcome}")
    if artifact.digest != event.dictionary:
        raise RequestError(
            f"{artifact.path} has digest {artifact.digest}, the entry was made with "
            f"{event.dictionary}; give the artifact that answered"
        )
    encoder = ConceptEncoder(artifact)
    parts = _parts(event, inputs)
    acts = {name: _activations(encoder, name, parts) for name in event.codes}
    codes = encoder.encode(acts, event.mode)
    return [_compared(name, event.codes[name], codes[name]) for name in event.codes]


def _parts(event: EncodeEvent, inputs: list[Path]) -> dict[str, bytes]:
    """The content of each part of the item, found by its digest."""
    wanted = {digest: part for part, digest in event.content.items()}
    parts: dict[str, bytes] = {}
    for path in inputs:
        content = _content(path)
        digest = content_digest(content)
        if digest not in wanted:
            raise RequestError(
                f"{path} has SHA-256 {digest}, the entry was made for {', '.join(wanted)}: it is "
                "not the input that was sent"
            )
        parts[wanted[digest]] = content
    missing = event.content.keys() - parts.keys()
    if missing:
        raise RequestError(f"the entry is also over `{'`, `'.join(missing)}`; give that `--input`")
    return parts


def _content(path: Path) -> bytes:
    """A file's bytes as they were hashed: a text without its last newline, activations bare."""
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), "<f4").tobytes()
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from error
    return content.removesuffix(b"\n") if path.suffix == ".txt" else content


def _activations(encoder: ConceptEncoder, stream: str, parts: dict[str, bytes]) -> ActsND:
    if stream not in encoder.streams:
        raise RequestError(f"the entry is over stream {stream!r}, which the dictionary lacks")
    if f"activations.{stream}" in parts:
        return np.frombuffer(parts[f"activations.{stream}"], "<f4")[None].astype(np.float32)
    spec = encoder.streams[stream].preprocess
    part = "image" if isinstance(spec, ImagePreprocess) else "text"
    if part not in parts:
        raise RequestError(f"the entry has stream `{stream}` but no content that it reads")
    if isinstance(spec, ImagePreprocess):
        pixels = encoder.preprocess(stream, decode_image(parts["image"]))
        return encoder.activations(stream, pixels[None])
    return encoder.activations(stream, encoder.tokenize(stream, [parts["text"].decode()]))


def _compared(stream: str, recorded: tuple[ActiveConcept, ...], codes: Codes) -> Reproduced:
    active_K = codes.indices_NK[0] != PAD
    indices = codes.indices_NK[0][active_K].tolist()
    values = codes.values_NK[0][active_K].tolist()
    now = dict(zip(indices, values, strict=True))
    kept = [one.micros / MICRO for one in recorded]
    own = [now.get(one.concept, 0.0) for one in recorded]
    ranked = values[: len(kept)]
    # compared by rank too, so that a tie may change places but no stronger concept goes unsaid
    same = len(ranked) == len(kept) and _close(kept, own) and _close(kept, ranked)
    return Reproduced(stream, recorded, indices, values, same)


def _close(kept: list[float], own: list[float]) -> bool:
    return bool(np.allclose(kept, own, rtol=RELATIVE, atol=ABSOLUTE))
