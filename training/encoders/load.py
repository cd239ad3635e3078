"""The registry of encoder kinds and the one way to load an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.encoders.config import EncoderConfig, Kind
from training.encoders.encoder import Encoder


def load_encoder(config: EncoderConfig, folder: Path | None = None, device: str = "cpu") -> Encoder:
    """Load an encoder, its weights from `folder` (or an absolute path) first, then from the hub.

    Raises EncoderError with what to put where when the weights are nowhere, damaged or of
    another model.
    """
    return LOADERS[config.kind](config, folder, device)


# A library is imported when a stream needs it: together they take many seconds.
def _open_clip(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    from training.encoders.open_clip_towers import load_open_clip

    return load_open_clip(config, folder, device)


def _timm(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    from training.encoders.timm_vision import load_timm

    return load_timm(config, folder, device)


def _transformers(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    from training.encoders.transformers_text import load_transformers

    return load_transformers(config, folder, device)


def _onnx(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    from training.encoders.onnx_file import load_onnx

    return load_onnx(config, folder, device)


LOADERS: dict[Kind, Callable[[EncoderConfig, Path | None, str], Encoder]] = {
    "open_clip": _open_clip,
    "timm": _timm,
    "transformers": _transformers,
    "onnx": _onnx,
}
"""Kind → loader; a new kind is one function here and its row in `config.POOLINGS`."""
