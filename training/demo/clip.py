"""Trains the demo's open_clip pair, image and text, by contrast on the demo corpus."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from torch.nn import functional

from training.demo.scenes import SIDE
from training.demo.shots import Shots
from training.progress import progress

CONTEXT_LENGTH = 32
WIDTH = 128
MEAN = STD = (0.5, 0.5, 0.5)
PAD, START, END = "<pad>", "<start>", "<end>"
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": PAD,
    "bos_token": START,
    "eos_token": END,
    "model_max_length": CONTEXT_LENGTH,
}


def make_tokenizer(captions: Iterable[str]) -> Tokenizer:
    """A byte-level BPE tokenizer for the captions' words, able to spell any other text.

    The end token has the highest id: open_clip's text tower pools there.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1022,
        special_tokens=[PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.add_special_tokens([START, END])
    ids = {token: tokenizer.token_to_id(token) for token in (START, END)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=list(ids.items())
    )
    assert ids[END] == tokenizer.get_vocab_size() - 1
    return tokenizer


def model_config(vocab_size: int) -> dict[str, object]:
    """open_clip's `model_cfg` of the pair."""
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": [1, 1, 1, 1],
            "width": 12,
            "head_width": 64,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "hf_tokenizer_name": "tokenizer.json",
            "width": WIDTH,
            "heads": 4,
            "layers": 2,
        },
    }


def make_model(tokenizer: Tokenizer) -> CLIP:
    """The pair with fresh weights from torch's generator."""
    config = model_config(tokenizer.get_vocab_size())
    return CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])  # pyright: ignore[reportArgumentType]


def tokenize(tokenizer: Tokenizer, captions: list[str]) -> Tensor:
    """Token ids, cut and padded to `CONTEXT_LENGTH`."""
    ids_NT = np.zeros((len(captions), CONTEXT_LENGTH), np.int64)
    for row, encoding in enumerate(tokenizer.encode_batch(captions)):
        ids = encoding.ids
        if len(ids) > CONTEXT_LENGTH:
            ids = [*ids[: CONTEXT_LENGTH - 1], ids[-1]]
        ids_NT[row, : len(ids)] = ids
    return torch.from_numpy(ids_NT)


def pixels(images_NHWC: Tensor) -> Tensor:
    """uint8 pixels as both encoders read them: channels first, about -1 to 1."""
    return images_NHWC.permute(0, 3, 1, 2).float() / 127.5 - 1


def train_clip(shots: Shots, *, steps: int, batch: int, seed: int) -> tuple[CLIP, Tokenizer]:
    """The pair after `steps` of InfoNCE over images and one of their captions each."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = make_tokenizer(caption for item in shots.captions for caption in item)
    ids_NCT = torch.stack(
        [tokenize(tokenizer, [item[c] for item in shots.captions]) for c in range(5)], 1
    )
    model = make_model(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1, weight_decay=0.02, betas=(0.9, 0.98))
    target_N = torch.arange(batch)
    with progress(steps, "training the image-text pair") as bar:
        for step in range(steps):
            rows_N = rng.integers(0, len(shots.captions), batch)
            # half of the time the caption that names every object: it tells images apart
            which_N = np.where(rng.random(batch) < 0.5, 0, rng.integers(0, 5, batch))
            logits_NN = _logits(model, shots.images_NHWC[rows_N], ids_NCT[rows_N, which_N])
            loss = functional.cross_entropy(logits_NN, target_N) + functional.cross_entropy(
                logits_NN.T, target_N
            )
            update(model, optimizer, loss, rate(step, steps, peak=1.5e-3))
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            bar.advance(1, f"loss {loss.item() / 2:.3f}")
    return model.eval(), tokenizer


def _logits(model: CLIP, images_NHWC: Tensor, ids_NT: Tensor) -> Tensor:
    # the convolutions gain from bfloat16 where the processor has it, the small transformer does not
    with torch.autocast("cpu", torch.bfloat16):
        image_ND = model.encode_image(pixels(images_NHWC))
    image_ND = functional.normalize(image_ND.float(), dim=-1)
    text_ND = model.encode_text(ids_NT, normalize=True)
    return model.logit_scale.exp() * image_ND @ text_ND.T


def update(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, lr: float
) -> None:
    """One step down the gradient of `loss`, clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def rate(step: int, steps: int, *, peak: float) -> float:
    """Learning rate: a linear rise over the first twentieth, then half a cosine to zero."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def save_clip(model: CLIP, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the pair as a directory that open_clip loads by `local-dir:FOLDER`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": model_config(tokenizer.get_vocab_size()),
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=1) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
