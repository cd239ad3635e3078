"""open_clip's image and text towers as encoders; trains nothing and reads no pickles.

Activations are `encode_image` / `encode_text`: projected to the shared space, not normalised
(the dictionary does that).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors import SafetensorError
from torch import Tensor, nn

from koine.errors import EncoderError
from koine.streams import EncoderIdentity, ImagePreprocess, TextPreprocess
from training.encoders.config import EncoderConfig
from training.encoders.encoder import Encoder, TorchBackbone
from training.encoders.pixels import ImageModule, width_of_images
from training.encoders.tokenizer_files import clip_tokenizer_file, pad_id_of, text_preprocess
from training.encoders.weights import (
    Files,
    find_files,
    one_line,
    read_json,
    revision_of_files,
    revision_of_tensors,
)

WEIGHTS = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.safetensors",
)
CONFIG = "open_clip_config.json"
CLIP_VOCABULARY = 49408


class TextTower(nn.Module):
    """Token ids to `encode_text`; the mask is not needed, since the end token marks the end."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        return self.model.encode_text(ids_NT)  # type: ignore[operator]


def load_open_clip(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    """Load one tower from a directory in open_clip's format, a weights file, the hub or a seed."""
    if config.seed is not None:
        files, description = None, _built_in(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = _build(config, description)
        revision = revision_of_tensors(model.state_dict())
    else:
        files = find_files(config.name, _source(config), folder)
        path = files.weights(*WEIGHTS)
        beside = files.beside(CONFIG)
        description = _described(beside) if beside else _built_in(config)
        model = _build(config, description)
        _fill(config, model, path)
        revision = revision_of_files(path)
    identity = EncoderIdentity(
        kind="open_clip", name=config.name, revision=revision, pooling=config.pooling
    )
    if config.modality == "image":
        return _image_encoder(config, model, description, identity, device)
    return _text_encoder(config, model, description, identity, files, device)


def _source(config: EncoderConfig) -> str:
    """The hub id behind one of open_clip's pretrained tags, other weights as they are."""
    tagged = open_clip.get_pretrained_cfg(config.name, config.weights)
    return tagged["hf_hub"].rstrip("/") if tagged and tagged.get("hf_hub") else config.weights


def _described(path: Path) -> dict[str, Any]:
    description = read_json(path)
    if not {"vision_cfg", "text_cfg"} <= description.get("model_cfg", {}).keys():
        raise EncoderError(
            f"{path} describes no model of two towers; restore the `model_cfg` with `vision_cfg` "
            "and `text_cfg` that open_clip writes"
        )
    return description


def _built_in(config: EncoderConfig) -> dict[str, Any]:
    model_cfg = open_clip.get_model_config(config.name)
    if model_cfg is None:
        raise EncoderError(
            f"open_clip knows no architecture {config.name!r} and no {CONFIG} lies beside the "
            "weights; put that file there or name an architecture of `open_clip.list_models()`"
        )
    return {"model_cfg": model_cfg}


def _build(config: EncoderConfig, description: dict[str, Any]) -> Any:
    """The untrained model; as `open_clip.create_model` does, without its downloads and logging."""
    cfg = {**description["model_cfg"], **config.kwargs}
    text_cfg = cfg["text_cfg"] = {**cfg["text_cfg"], "hf_model_pretrained": False}
    custom_text = cfg.pop("custom_text", False) or "hf_model_name" in text_cfg
    two_towers = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    architecture = open_clip.CoCa if "multimodal_cfg" in cfg else two_towers
    try:
        return architecture(**cfg)
    except (TypeError, ValueError, OSError) as error:
        raise EncoderError(
            f"open_clip cannot build {config.name!r}: {one_line(error)}; "
            f"check {CONFIG} and `kwargs`"
        ) from error


def _fill(config: EncoderConfig, model: Any, path: Path) -> None:
    try:
        open_clip.load_checkpoint(model, str(path))
    except (SafetensorError, RuntimeError, KeyError, OSError, ValueError) as error:
        raise EncoderError(
            f"{path} does not fit open_clip's {config.name!r}: {one_line(error)}; give the "
            f"weights of this architecture, with their {CONFIG}"
        ) from error


def _image_encoder(
    config: EncoderConfig,
    model: Any,
    description: dict[str, Any],
    identity: EncoderIdentity,
    device: str,
) -> Encoder:
    spec = config.preprocess or _image_preprocess(config, model, description)
    module = ImageModule(spec, model.visual).eval()
    return Encoder(
        identity=identity,
        d_in=width_of_images(module, spec),
        preprocess=spec,
        backbone=TorchBackbone(module, device),
    )


def _image_preprocess(
    config: EncoderConfig, model: Any, description: dict[str, Any]
) -> ImagePreprocess:
    stated = merge_preprocess_dict(asdict(PreprocessCfg()), description.get("preprocess_cfg", {}))
    size = model.visual.image_size
    sides = set(size) if isinstance(size, tuple) else {size}
    if len(sides) > 1 or stated["resize_mode"] == "longest":
        raise EncoderError(
            f"{config.name!r} wants images of {size} resized by {stated['resize_mode']!r}; only "
            "squares by `shortest` or `squash` are supported: state `preprocess` in the recipe"
        )
    (side,) = sides
    bilinear = stated["interpolation"] == "bilinear"
    return ImagePreprocess(
        resize=stated["resize_mode"],
        resize_size=side,
        crop_size=side,
        interpolation="bilinear" if bilinear else "bicubic",
        mean=stated["mean"],
        std=stated["std"],
    )


def _text_encoder(
    config: EncoderConfig,
    model: Any,
    description: dict[str, Any],
    identity: EncoderIdentity,
    files: Files | None,
    device: str,
) -> Encoder:
    file, spec = _text_preprocess(config, description["model_cfg"]["text_cfg"], files)
    del model.visual  # not needed for texts, and the larger tower
    module = TextTower(model).eval()
    ids_NT = torch.zeros(1, spec.context_length, dtype=torch.int64)
    with torch.inference_mode():
        d_in = module(ids_NT, torch.ones_like(ids_NT)).shape[-1]
    return Encoder(
        identity=identity,
        d_in=d_in,
        preprocess=spec,
        backbone=TorchBackbone(module, device),
        tokenizer_file=file,
    )


def _text_preprocess(
    config: EncoderConfig, text_cfg: dict[str, Any], files: Files | None
) -> tuple[Path, TextPreprocess]:
    """open_clip's own tokenizer, unless the config names another (`hf_tokenizer_name`) or has
    another vocabulary: then a `tokenizer.json` lies beside the weights."""
    stated = text_cfg.get("context_length", 77)
    if config.context_length not in (None, stated):
        raise EncoderError(
            f"the text tower of {config.name!r} reads exactly {stated} tokens, the recipe says "
            f"{config.context_length}; leave `context_length` out"
        )
    own_vocabulary = text_cfg.get("vocab_size", CLIP_VOCABULARY) == CLIP_VOCABULARY
    if not text_cfg.get("hf_tokenizer_name") and own_vocabulary:
        file = clip_tokenizer_file()
        return file, text_preprocess(file, stated, clean="clip_lower")
    options = {"clean": "whitespace", **text_cfg.get("tokenizer_kwargs", {})}
    clean = options.pop("clean")
    file = files.beside("tokenizer.json") if files else None
    if file is None:
        raise EncoderError(
            f"encoder `{config.name}` has a vocabulary of its own and no tokenizer.json beside its "
            "weights; put it there"
        )
    if options or clean not in ("whitespace", "canonicalize"):
        raise EncoderError(
            f"encoder `{config.name}` asks of its tokenizer {text_cfg['tokenizer_kwargs']}, which "
            "is not supported; give this text encoder as an ONNX file"
        )
    return file, text_preprocess(file, stated, clean=f"clip_{clean}", pad_id=pad_id_of(file, files))
