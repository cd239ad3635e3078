"""timm's vision models as encoders: class token, average or attention pooling; no classifier."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
import timm.data
import torch
from torch import Tensor, nn

from koine.errors import EncoderError
from koine.streams import EncoderIdentity, ImagePreprocess
from training.encoders.config import EncoderConfig
from training.encoders.encoder import Encoder, TorchBackbone
from training.encoders.pixels import ImageModule, width_of_images
from training.encoders.weights import (
    find_files,
    one_line,
    read_safetensors,
    revision_of_files,
    revision_of_tensors,
)

WEIGHTS = ("model.safetensors",)
_POOLINGS = {"token": "cls", "fast": "avg", "fastavg": "avg"}
"""timm's names for what Koine calls otherwise."""


class PooledModel(nn.Module):
    """Images to one vector each: the model's own head where it pools so, else its tokens.

    DINOv2 with registers and `cls` is the normalised class token, as its authors' hub gives it.
    """

    def __init__(self, model: Any, pooling: str) -> None:
        super().__init__()
        self.model = model
        self._own = _own_pooling(model) == pooling
        self._pooling = pooling
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features = self.model.forward_features(images_NCHW)
        if self._own:
            return self.model.forward_head(features, pre_logits=True)
        if self._pooling == "cls":
            return features[:, 0]
        return features[:, self._prefix :].mean(1)


def load_timm(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    """Load a model by timm's name from a safetensors file, a directory, the hub or a seed."""
    if config.seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = _create(config, {})
        revision = revision_of_tensors(model.state_dict())
    else:
        path = find_files(config.name, config.weights, folder).weights(*WEIGHTS)
        model = _filled(config, path)
        revision = revision_of_files(path)
    _check_pooling(config, model)
    spec = config.preprocess or _image_preprocess(config, model)
    module = ImageModule(spec, PooledModel(model, config.pooling)).eval()
    return Encoder(
        identity=EncoderIdentity(
            kind="timm", name=config.name, revision=revision, pooling=config.pooling
        ),
        d_in=width_of_images(module, spec),
        preprocess=spec,
        backbone=TorchBackbone(module, device),
    )


def _create(config: EncoderConfig, loading: dict[str, Any]) -> Any:
    if not timm.is_model(config.name):
        close = timm.list_models(f"*{config.name.split('_')[0]}*")[:5]
        raise EncoderError(
            f"timm knows no model {config.name!r}; name one of `timm.list_models()`"
            + (f", such as {', '.join(close)}" if close else "")
        )
    try:
        return timm.create_model(config.name, **{"num_classes": 0, **config.kwargs}, **loading)
    except TypeError as error:
        raise EncoderError(
            f"timm cannot build {config.name!r} with {dict(config.kwargs)}: {one_line(error)}; "
            "check `kwargs` in the recipe"
        ) from error


def _filled(config: EncoderConfig, path: Path) -> Any:
    """The model with the file's weights, its classifier left out, every other tensor matched."""
    tensors = read_safetensors(path)
    stated = timm.get_pretrained_cfg(config.name, allow_unregistered=True)
    heads = (stated and stated.classifier) or ()
    for head in (heads,) if isinstance(heads, str) else heads:
        tensors.pop(f"{head}.weight", None)
        tensors.pop(f"{head}.bias", None)
    # Through timm's own loading, which adapts checkpoints (position embeddings, old names); an
    # overlay without classifier keeps it strict.
    overlay = {"state_dict": tensors, "classifier": None, "source": None}
    try:
        model = _create(config, {"pretrained": True, "pretrained_cfg_overlay": overlay})
    except (RuntimeError, KeyError) as error:
        raise EncoderError(
            f"{path} does not fit timm's {config.name!r}: {one_line(error)}; give the "
            "weights of this model"
        ) from error
    model.pretrained_cfg.pop("state_dict", None)
    return model


def _own_pooling(model: Any) -> str:
    """How the model's own head pools, in Koine's words; empty where it does not say."""
    pool = getattr(model, "global_pool", None) or getattr(
        getattr(model, "head", None), "global_pool", None
    )
    kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", "")
    return _POOLINGS.get(kind, kind)


def _check_pooling(config: EncoderConfig, model: Any) -> None:
    own = _own_pooling(model)
    tokens = hasattr(model, "num_prefix_tokens")
    has_class_token = getattr(model, "cls_token", None) is not None
    fits = {
        own: True,
        "cls": has_class_token,
        "avg": own == "avg" or tokens,
        "map": own == "map",
    }
    if not fits[config.pooling]:
        raise EncoderError(
            f"timm's {config.name!r} cannot pool by {config.pooling!r}: its own pooling is {own!r}"
            f"{', it has a class token' if has_class_token else ' and it has no class token'}; "
            "choose another `pooling` in the recipe"
        )


def _image_preprocess(config: EncoderConfig, model: Any) -> ImagePreprocess:
    args = {"img_size": config.kwargs["img_size"]} if "img_size" in config.kwargs else {}
    stated = timm.data.resolve_model_data_config(model, args=args)
    _, height, width = stated["input_size"]
    if height != width or stated["crop_mode"] not in ("center", "squash"):
        raise EncoderError(
            f"timm's {config.name!r} wants images of {width}×{height} cropped by "
            f"{stated['crop_mode']!r}; only squares by `center` or `squash` are supported: state "
            "`preprocess` in the recipe"
        )
    return ImagePreprocess(
        resize="squash" if stated["crop_mode"] == "squash" else "shortest",
        resize_size=math.floor(height / stated["crop_pct"]),
        crop_size=height,
        interpolation=stated["interpolation"],
        mean=stated["mean"],
        std=stated["std"],
    )
