"""transformers' text models as encoders: pooled over the tokens, L2-normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils.logging import disable_progress_bar

from koine.errors import EncoderError
from koine.streams import EncoderIdentity, TextPreprocess
from training.encoders.config import EncoderConfig
from training.encoders.encoder import Encoder, TorchBackbone
from training.encoders.tokenizer_files import pad_id_of, text_preprocess
from training.encoders.weights import Files, find_files, one_line, read_json, revision_of_files

WEIGHTS = ("model.safetensors",)


class PooledText(nn.Module):
    """Token ids and mask to the unit-norm mean over the masked tokens, or to the first token."""

    def __init__(self, model: nn.Module, pooling: str) -> None:
        super().__init__()
        self.model = model
        self._pooling = pooling

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        output = self.model(input_ids=ids_NT, attention_mask=mask_NT)
        hidden_NTD = output.last_hidden_state
        if self._pooling == "cls":
            return nn.functional.normalize(hidden_NTD[:, 0], dim=-1)
        weight_NT1 = mask_NT.unsqueeze(-1).to(hidden_NTD.dtype)
        mean_ND = (hidden_NTD * weight_NT1).sum(1) / weight_NT1.sum(1).clamp(min=1.0)
        return nn.functional.normalize(mean_ND, dim=-1)


def load_transformers(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    """Load a text model from a directory in transformers' format or from the hub."""
    files = find_files(config.name, config.weights, folder)
    weights = files.weights(*WEIGHTS)
    _beside(config, files, "config.json")
    tokenizer = _beside(config, files, "tokenizer.json")
    model = _model(config, weights.parent)
    module = PooledText(model, config.pooling).eval()
    spec = _text_preprocess(config, model, tokenizer, files)
    one_NT = torch.ones(1, 2, dtype=torch.int64)
    with torch.inference_mode():
        d_in = module(one_NT, one_NT).shape[-1]
    return Encoder(
        identity=EncoderIdentity(
            kind="transformers",
            name=config.name,
            revision=revision_of_files(weights),
            pooling=config.pooling,
        ),
        d_in=d_in,
        preprocess=spec,
        backbone=TorchBackbone(module, device),
        tokenizer_file=tokenizer,
    )


def _beside(config: EncoderConfig, files: Files, name: str) -> Path:
    path = files.beside(name)
    if path is None:
        raise EncoderError(
            f"encoder `{config.name}` has weights but no {name} beside them; put the model's "
            f"{name} into the same directory"
        )
    return path


def _model(config: EncoderConfig, folder: Path) -> Any:
    """The model in float32, whatever its weights are stored in."""
    disable_progress_bar()  # extraction shows one of its own
    try:
        model, info = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **config.kwargs,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EncoderError(
            f"transformers cannot load {folder}: {one_line(error)}; put a model of its format there"
        ) from error
    missing = [name for name in info["missing_keys"] if not name.startswith("pooler.")]
    if missing:
        raise EncoderError(
            f"{folder} lacks weights that its config.json asks for: {', '.join(missing[:3])} "
            f"({len(missing)} in all); put the right model.safetensors there"
        )
    return model


def _text_preprocess(
    config: EncoderConfig, model: Any, tokenizer: Path, files: Files
) -> TextPreprocess:
    beside = files.beside("tokenizer_config.json")
    stated = read_json(beside).get("model_max_length") if beside else None
    limits = [getattr(model.config, "max_position_embeddings", None), stated]
    longest = int(min((limit for limit in limits if limit), default=512))
    if config.context_length is not None and config.context_length > longest:
        raise EncoderError(
            f"encoder `{config.name}` reads at most {longest} tokens, the recipe says "
            f"{config.context_length}; lower `context_length`"
        )
    return text_preprocess(
        tokenizer,
        config.context_length or longest,
        pad_id=pad_id_of(tokenizer, files),
        fixed_length=False,
    )
