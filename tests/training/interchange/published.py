"""Checkpoints as SPARC's published code writes them, with random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

C, K = 32, 4
ARGS = {
    "n_latents": C,
    "k": K,
    "auxk": 8,
    "batch_size": 256,
    "num_epochs": 50,
    "lr": 1e-4,
    "auxk_coef": 1 / 32,
    "cross_loss_coef": 1.0,
    "seed": 42,
    "topk_type": "global",
    "dead_steps_threshold": 1000,
    "dead_neuron_threshold": 1000,
    "auxk_threshold": 1e-3,
    "use_sparse_decoder": False,
    "exp_name": "msae_open_global_with_cross",
}


def state_of(widths: Mapping[str, int]) -> dict[str, Tensor]:
    """The published module's state_dict."""
    torch.manual_seed(7)
    state: dict[str, Tensor] = {}
    for name, width in widths.items():
        state[f"encoders.{name}.weight"] = torch.randn(C, width) * 0.5
        decoder_DC = nn.functional.normalize(torch.randn(width, C), dim=0)
        state[f"decoders.{name}.weight"] = decoder_DC
        state[f"pre_biases.{name}"] = torch.randn(width) * 0.1
        state[f"latent_biases.{name}"] = torch.randn(C) * 0.1
        state[f"stats_last_nonzero_{name}"] = torch.ones(C, dtype=torch.long)
    return state


def write_published(folder: Path, state: Mapping[str, Any], args: Mapping[str, Any] = ARGS) -> Path:
    """`msae_checkpoint.pth` and `run_config.json` in `folder`; the checkpoint's path."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), folder / "msae_checkpoint.pth")
    config = {"args": dict(args), "config_file_content": {"train_stream_feature_files": {}}}
    (folder / "run_config.json").write_text(json.dumps(config, indent=4))
    return folder / "msae_checkpoint.pth"
