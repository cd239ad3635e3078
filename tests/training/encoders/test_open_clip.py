"""open_clip's towers give what open_clip's own loading, transforms and tokenizers give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from koine.errors import EncoderError
from koine.streams import ImagePreprocess, TextPreprocess
from koine.texts import Tokens
from tests.koine.test_texts import small_bert
from tests.training.encoders.conftest import CAPTIONS, MODEL_CFG, TEXT_CFG, write_clip
from training.encoders import EncoderConfig, load_encoder

TOLERANCE = 2e-5
"""Batched and single float32 sums differ by their order."""


def config(modality: str, weights: str, **fields: object) -> EncoderConfig:
    return EncoderConfig(
        kind="open_clip",
        modality=modality,  # type: ignore[arg-type]
        weights=weights,
        **{"name": "small-clip", **fields},  # type: ignore[arg-type]
    )


def theirs(folder: Path) -> tuple[torch.nn.Module, object, object]:
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")  # type: ignore[misc]
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


def test_image_tower_is_encode_image(clip_folder: Path, images: list[Image.Image]) -> None:
    encoder = load_encoder(config("image", "small-clip"), clip_folder.parent)
    model, transform, _ = theirs(clip_folder)
    with torch.inference_mode():
        expected_ND = model.encode_image(torch.stack([transform(i) for i in images])).numpy()  # type: ignore[operator]
    acts_ND = encoder.activations(encoder.prepare(images))
    np.testing.assert_allclose(acts_ND, expected_ND, atol=TOLERANCE)
    assert acts_ND.std() > 0.1
    assert (encoder.d_in, encoder.modality) == (24, "image")
    assert encoder.preprocess == ImagePreprocess(
        resize="squash", resize_size=48, crop_size=48, interpolation="bilinear",
        mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4),
    )  # fmt: skip


def test_text_tower_is_encode_text(clip_folder: Path) -> None:
    encoder = load_encoder(config("text", str(clip_folder)))
    model, _, tokenizer = theirs(clip_folder)
    with torch.inference_mode():
        expected_ND = model.encode_text(tokenizer(CAPTIONS)).numpy()  # type: ignore[operator]
    batch = encoder.prepare(CAPTIONS)
    assert isinstance(batch, Tokens)
    np.testing.assert_array_equal(batch.ids_NT, tokenizer(CAPTIONS).numpy())  # type: ignore[operator]
    np.testing.assert_allclose(encoder.activations(batch), expected_ND, atol=TOLERANCE)
    assert encoder.identity.pooling == "projected"


def test_both_towers_share_one_revision(clip_folder: Path) -> None:
    import hashlib

    digest = hashlib.sha256((clip_folder / "open_clip_model.safetensors").read_bytes()).hexdigest()
    for modality in ("image", "text"):
        encoder = load_encoder(config(modality, "small-clip"), clip_folder.parent)
        assert encoder.identity.revision == f"sha256:{digest}"
        assert encoder.stream("clip").encoder == encoder.identity


def test_a_tokenizer_of_ones_own_is_open_clips_too(tmp_path: Path) -> None:
    text_cfg = {**TEXT_CFG, "vocab_size": 300, "context_length": 9, "hf_tokenizer_name": "own"}
    text_cfg |= {"pool_type": "last"}
    folder = write_clip(tmp_path / "own", {**MODEL_CFG, "text_cfg": text_cfg})
    small_bert(folder)
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    encoder = load_encoder(config("text", "own"), tmp_path)
    model, _, tokenizer = theirs(folder)
    batch = encoder.prepare(CAPTIONS)
    assert isinstance(batch, Tokens)
    np.testing.assert_array_equal(batch.ids_NT, tokenizer(CAPTIONS).numpy())  # type: ignore[operator]
    with torch.inference_mode():
        expected_ND = model.encode_text(tokenizer(CAPTIONS)).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(encoder.activations(batch), expected_ND, atol=TOLERANCE)
    assert encoder.tokenizer_file == folder / "tokenizer.json"
    assert isinstance(encoder.preprocess, TextPreprocess)
    assert encoder.preprocess.clean == "clip_whitespace"


def test_a_small_vocabulary_needs_its_tokenizer(tmp_path: Path) -> None:
    write_clip(tmp_path / "own", {**MODEL_CFG, "text_cfg": {**TEXT_CFG, "vocab_size": 300}})
    with pytest.raises(EncoderError, match=r"own and no tokenizer\.json .*put it there"):
        load_encoder(config("text", "own"), tmp_path)


def test_a_lone_weights_file_goes_with_an_architecture(tmp_path: Path) -> None:
    encoder = load_encoder(
        config("image", "random:3", name="ViT-S-32-alt", kwargs=dict(MODEL_CFG)), None
    )
    model = open_clip.CLIP(**MODEL_CFG)  # type: ignore[arg-type]
    state = model.state_dict() | {
        f"visual.{name}": tensor
        for name, tensor in encoder.module.tower.state_dict().items()  # type: ignore[union-attr]
    }
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "clip.safetensors")
    again = load_encoder(
        config("image", "clip.safetensors", name="ViT-S-32-alt", kwargs=dict(MODEL_CFG)), tmp_path
    )
    black = np.zeros((1, 48, 48, 3), np.uint8)
    np.testing.assert_array_equal(again.activations(black), encoder.activations(black))
    assert again.identity.revision != encoder.identity.revision


def test_random_weights_follow_their_seed() -> None:
    first, second, other = (
        load_encoder(config("text", f"random:{seed}", name="ViT-B-32", kwargs=dict(MODEL_CFG)))
        for seed in (1, 1, 2)
    )
    assert first.identity == second.identity != other.identity
    batch = first.prepare(["a dog"])
    np.testing.assert_array_equal(first.activations(batch), second.activations(batch))
    assert np.abs(first.activations(batch) - other.activations(batch)).max() > 1e-3


def test_random_weights_leave_the_generator_alone() -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    load_encoder(config("text", "random:1", name="ViT-B-32", kwargs=dict(MODEL_CFG)))
    assert torch.equal(torch.rand(3), expected)


def test_pretrained_tags_are_hub_ids(tmp_path: Path) -> None:
    tagged = config("image", "datacomp_xl_s13b_b90k", name="ViT-L-14", kwargs=dict(MODEL_CFG))
    write_clip(tmp_path / "CLIP-ViT-L-14-DataComp.XL-s13B-b90K", MODEL_CFG)
    assert load_encoder(tagged, tmp_path).d_in == 24


def test_weights_of_another_architecture_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(clip_folder, folder)
    file = folder / "open_clip_model.safetensors"
    weights = load_file(file)
    del weights["visual.proj"]
    save_file(weights, file)
    with pytest.raises(EncoderError, match=r"does not fit .*visual\.proj.*give the weights"):
        load_encoder(config("image", "mixed"), tmp_path)
    file.write_bytes(b"not safetensors at all")
    with pytest.raises(EncoderError, match="does not fit.*header too large"):
        load_encoder(config("image", "mixed"), tmp_path)
    (tmp_path / "clip.bin").write_bytes(b"a pickle")
    with pytest.raises(EncoderError, match=r"clip\.bin is no \.safetensors file; give one"):
        load_encoder(config("image", "clip.bin"), tmp_path)


def test_unknown_architectures_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="knows no architecture 'ViT-Q-1'.*open_clip_config"):
        load_encoder(config("image", "random:0", name="ViT-Q-1"))
    with pytest.raises(EncoderError, match="cannot build 'ViT-B-32'.*check"):
        load_encoder(config("image", "random:0", name="ViT-B-32", kwargs={"colour": "red"}))
    with pytest.raises(EncoderError, match="reads exactly 77 tokens, the recipe says 64"):
        load_encoder(
            config("text", "random:0", name="ViT-B-32", kwargs=dict(MODEL_CFG), context_length=64)
        )


def test_a_broken_description_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(clip_folder, folder)
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"open_clip_config\.json cannot be read: .*restore"):
        load_encoder(config("image", "broken"), tmp_path)
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 3}}')
    with pytest.raises(EncoderError, match="describes no model of two towers; restore"):
        load_encoder(config("image", "broken"), tmp_path)


def test_unsupported_tokenizer_settings_are_refused(tmp_path: Path) -> None:
    text_cfg = {**TEXT_CFG, "hf_tokenizer_name": "own"}
    text_cfg["tokenizer_kwargs"] = {"strip_sep_token": True}
    small_bert(write_clip(tmp_path / "own", {**MODEL_CFG, "text_cfg": text_cfg}))
    with pytest.raises(EncoderError, match="'strip_sep_token': True.*give .* as an ONNX file"):
        load_encoder(config("text", "own"), tmp_path)
