"""Reads what SPARC's published code saves: `msae_checkpoint.pth` and `run_config.json` beside it.

Knows that format only: nothing of stores or runs. arXiv 2507.06265, AtlasAnalyticsLab/SPARC at
7f36faa; for each stream s of C latents and width D:

    encoders.s.weight [C, D]    decoders.s.weight [D, C]    pre_biases.s [D]    latent_biases.s [C]
    stats_last_nonzero_s [C]    steps since it fired, which nothing here needs

Never runs what a file says: pickled code is refused.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from koine.errors import CheckpointError
from training.configs import SPARC_AS_PUBLISHED, FitConfig

RUN_CONFIG = "run_config.json"
_ENCODER = re.compile(r"encoders\.([^.]+)\.weight")
_STREAM_KEYS = ("encoders.{}.weight", "decoders.{}.weight", "pre_biases.{}", "latent_biases.{}")
_IGNORED = re.compile(r"stats_last_nonzero_.+")
_FIELDS: dict[str, tuple[str, type]] = {
    "n_latents": ("num_concepts", int),
    "k": ("k", int),
    "topk_type": ("selection", str),
    "lr": ("lr", float),
    "batch_size": ("batch_size", int),
    "num_epochs": ("epochs", float),
    "cross_loss_coef": ("cross_weight", float),
    "auxk": ("auxk", int),
    "auxk_coef": ("auxk_weight", float),
    "dead_steps_threshold": ("dead_after", int),
    "seed": ("seed", int),
}
"""Their argument → field of FitConfig and its type."""
_NEEDED = ("n_latents", "k")


class PublishedStream(NamedTuple):
    """One stream's weights as published, float32."""

    encoder_CD: Tensor
    decoder_DC: Tensor
    pre_bias_D: Tensor
    latent_bias_C: Tensor


class Published(NamedTuple):
    """A published dictionary."""

    config: FitConfig
    """How it was trained, as far as `run_config.json` says."""
    streams: Mapping[str, PublishedStream]
    """By the name that they have there."""


def read_published(checkpoint: Path, run_config: Path | None = None) -> Published:
    """The dictionary in `checkpoint`; `run_config` defaults to `run_config.json` beside it.

    Raises `CheckpointError` for pickled code, missing or unknown keys, shapes that disagree and
    values that are not finite.
    """
    config = _read_config(run_config or checkpoint.with_name(RUN_CONFIG))
    state = _read_state(checkpoint)
    names = [found[1] for key in state if (found := _ENCODER.fullmatch(key))]
    if not names:
        raise CheckpointError(
            f"{checkpoint} holds no stream (no `encoders.<stream>.weight` among its "
            f"{len(state)} keys); give the msae_checkpoint.pth that SPARC's main.py wrote"
        )
    known = {key.format(name) for name in names for key in _STREAM_KEYS}
    unknown = sorted(k for k in state.keys() - known if not _IGNORED.fullmatch(k))
    if unknown:
        raise CheckpointError(
            f"{checkpoint} holds `{unknown[0]}`, which SPARC's dictionary does not have"
            f" ({len(unknown)} such keys): it would be lost; give one of the published code"
        )
    return Published(config, {name: _stream(checkpoint, state, name, config) for name in names})


def _read_config(path: Path) -> FitConfig:
    try:
        args = json.loads(path.read_bytes())["args"]
        missing = [name for name in _NEEDED if name not in args]
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): k stands nowhere else; give SPARC's "
            "run_config.json with `--config`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no run_config.json of SPARC: it needs a JSON object with `args`"
        ) from error
    if missing:
        raise CheckpointError(f"{path} lacks {' and '.join(missing)} in its `args`; add them")
    fields: dict[str, Any] = {"selection": "global"}
    try:
        for theirs, (ours, kind) in _FIELDS.items():
            if args.get(theirs) is not None:
                fields[ours] = kind(args[theirs])
        if fields["selection"] not in ("global", "local"):
            raise ValueError(f"`topk_type` must be global or local, got {fields['selection']}")
        return FitConfig(**SPARC_AS_PUBLISHED | fields)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} says what cannot be: {error}") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds pickled code or is no checkpoint, so it is not opened: save "
            "`model.state_dict()` with torch.save and give that file"
        ) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is damaged or no file of torch.save ({error}); copy it again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        what = type(state).__name__
        raise CheckpointError(
            f"{path} holds a {what} that is no state_dict of tensors; save `model.state_dict()`"
        )
    return state


def _stream(
    path: Path, state: Mapping[str, Tensor], name: str, config: FitConfig
) -> PublishedStream:
    keys = [key.format(name) for key in _STREAM_KEYS]
    missing = [key for key in keys if key not in state]
    if missing:
        raise CheckpointError(f"{path} lacks `{'`, `'.join(missing)}`; give the whole checkpoint")
    num_concepts, d_in = config.num_concepts, state[keys[0]].shape[-1]
    shapes = [(num_concepts, d_in), (d_in, num_concepts), (d_in,), (num_concepts,)]
    for key, shape in zip(keys, shapes, strict=True):
        tensor = state[key]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise CheckpointError(
                f"{path}: `{key}` must be {shape} floats, for `n_latents` {num_concepts} and the "
                f"width of the stream's encoder; got {tuple(tensor.shape)} of {tensor.dtype}"
            )
        if not tensor.isfinite().all():
            odd = int((~tensor.isfinite()).sum())
            raise CheckpointError(f"{path}: `{key}` has {odd} values that are NaN or infinite")
    return PublishedStream(*(state[key].float() for key in keys))
