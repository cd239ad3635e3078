"""timm's models give what timm's own loading, transforms and heads give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from safetensors.torch import save_file

from koine.errors import EncoderError
from koine.images import decode_image
from koine.streams import ImagePreprocess
from training.encoders import EncoderConfig, load_encoder
from training.recipes import photos

TOLERANCE = 2e-5
"""Batched and single float32 sums differ by their order."""
REGISTERS: dict[str, Any] = {"img_size": 56, "depth": 2, "embed_dim": 32, "num_heads": 2}


def config(name: str, weights: str, **fields: object) -> EncoderConfig:
    return EncoderConfig(kind="timm", modality="image", name=name, weights=weights, **fields)  # type: ignore[arg-type]


def write(path: Path, name: str, **kwargs: object) -> torch.nn.Module:
    """timm's own model with random weights, saved as timm saves it."""
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.05 * torch.randn_like(tensor))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return model


def their_batch(model: torch.nn.Module, images: list[Image.Image]) -> torch.Tensor:
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    return torch.stack([transform(image) for image in images])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("test_vit", "cls"),
        ("test_vit2", "avg"),
        ("test_vit3", "map"),
        ("test_resnet", "avg"),
        ("test_efficientnet", "avg"),
        ("test_convnext", "avg"),
    ],
)
def test_own_pooling_is_timms_head(
    name: str, pooling: str, tmp_path: Path, images: list[Image.Image]
) -> None:
    model = write(tmp_path / name / "model.safetensors", name)
    encoder = load_encoder(config(name, name, pooling=pooling), tmp_path)
    with torch.inference_mode():
        features = model.forward_features(their_batch(model, images))  # type: ignore[operator]
        expected_ND = model.forward_head(features, pre_logits=True).numpy()  # type: ignore[operator]
    acts_ND = encoder.activations(encoder.prepare(images))
    np.testing.assert_allclose(acts_ND, expected_ND, atol=TOLERANCE, rtol=1e-4)
    assert acts_ND.shape == (len(images), encoder.d_in)
    assert encoder.identity.pooling == pooling


def test_dinov2_with_registers_gives_its_normalised_class_token(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    model = write(tmp_path / "dino.safetensors", name, **REGISTERS)
    cls = load_encoder(config(name, "dino.safetensors", pooling="cls", kwargs=REGISTERS), tmp_path)
    avg = load_encoder(config(name, "dino.safetensors", pooling="avg", kwargs=REGISTERS), tmp_path)
    assert cls.preprocess == avg.preprocess
    assert isinstance(cls.preprocess, ImagePreprocess)
    assert cls.preprocess.crop_size == 56
    batch = torch.from_numpy(cls.prepare(images))
    normalised: list[torch.Tensor] = []
    model.norm.register_forward_hook(lambda *call: normalised.append(call[-1]))  # type: ignore[union-attr]
    with torch.inference_mode():
        model(cls.module.pixels(batch))  # type: ignore[operator, union-attr]
    (tokens,) = normalised
    assert tokens.shape == (4, 1 + 4 + 16, 32)
    acts_ND = cls.activations(batch.numpy())
    np.testing.assert_allclose(acts_ND, tokens[:, 0].numpy(), atol=TOLERANCE)
    patches = tokens[:, 5:].mean(1).numpy()
    np.testing.assert_allclose(avg.activations(batch.numpy()), patches, atol=TOLERANCE)


def test_weights_of_another_image_size_are_resampled_as_timm_does(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    file = tmp_path / "model.safetensors"
    write(file, name, **{**REGISTERS, "img_size": 112})
    encoder = load_encoder(config(name, str(file), pooling="cls", kwargs=REGISTERS))
    theirs = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, **REGISTERS
    ).eval()
    batch = encoder.prepare(images)
    with torch.inference_mode():
        expected_ND = theirs(encoder.module.pixels(torch.from_numpy(batch)))  # type: ignore[operator, union-attr]
    np.testing.assert_allclose(encoder.activations(batch), expected_ND.numpy(), atol=TOLERANCE)


def test_real_mobilenets_are_timms(real_encoders: Path, images: list[Image.Image]) -> None:
    for config in photos().streams.values():
        if config.kind != "timm":
            continue
        encoder = load_encoder(config, real_encoders)
        model = timm.create_model(
            config.name,
            checkpoint_path=str(real_encoders / config.weights / "model.safetensors"),
            **config.kwargs,
        ).eval()
        spec = encoder.preprocess
        assert isinstance(spec, ImagePreprocess)
        transform = timm.data.create_transform(
            (3, 224, 224), crop_pct=0.875, interpolation="bicubic", mean=spec.mean, std=spec.std
        )
        with torch.inference_mode():
            batch = torch.stack([transform(image) for image in images])  # type: ignore[operator]
            features = model.forward_features(batch)  # type: ignore[operator]
            expected_ND = model.forward_head(features, pre_logits=True).numpy()  # type: ignore[operator]
        acts_ND = encoder.activations(encoder.prepare(images))
        np.testing.assert_allclose(acts_ND, expected_ND, atol=1e-4)  # values reach 10
        assert encoder.d_in == {"mobilenetv1_100": 1024, "mobilenetv2_100": 1280}[config.name]


def test_real_photographs_of_one_dog_are_alike(real_encoders: Path) -> None:
    config = photos().streams["mobilenetv2"]
    encoder = load_encoder(config, real_encoders)
    files = sorted((real_encoders.parent / "photos" / "images").iterdir())[:3]
    photographs = [decode_image(file.read_bytes()) for file in files]
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in photographs]
    acts_ND = encoder.activations(encoder.prepare([*photographs, *mirrored]))
    acts_ND /= np.linalg.norm(acts_ND, axis=1, keepdims=True)
    assert ((acts_ND[:3] @ acts_ND[3:].T).argmax(1) == np.arange(3)).all()


def test_no_tensor_may_be_missing_or_left_over(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    file = tmp_path / "model.safetensors"
    write(file, "test_vit")
    weights = load_file(file)
    whole = dict(weights)
    del weights["blocks.0.attn.qkv.weight"]
    save_file(weights, file)
    with pytest.raises(EncoderError, match=r"does not fit timm's 'test_vit'.*blocks\.0\.attn\.qkv"):
        load_encoder(config("test_vit", str(file)))
    save_file(whole | {"stranger": torch.ones(2)}, file)
    with pytest.raises(EncoderError, match="does not fit timm's 'test_vit'.*stranger"):
        load_encoder(config("test_vit", str(file)))
    headless = {k: v for k, v in whole.items() if not k.startswith("head.")}
    save_file(headless, file)
    assert load_encoder(config("test_vit", str(file))).d_in == 64


def test_unfit_pooling_names_and_settings_are_refused() -> None:
    with pytest.raises(EncoderError, match="cannot pool by 'cls'.*own pooling is 'avg'"):
        load_encoder(config("test_resnet", "random:0", pooling="cls"))
    with pytest.raises(EncoderError, match="cannot pool by 'map'.*own pooling is 'cls'"):
        load_encoder(config("test_vit", "random:0", pooling="map"))
    with pytest.raises(EncoderError, match="knows no model 'mobilenet_nine'.*such as"):
        load_encoder(config("mobilenet_nine", "random:0"))
    with pytest.raises(EncoderError, match="cannot build 'test_vit' with.*colour"):
        load_encoder(config("test_vit", "random:0", kwargs={"colour": "red"}))


def test_random_weights_follow_their_seed() -> None:
    revisions = [
        load_encoder(config("test_vit", f"random:{seed}")).identity.revision for seed in (1, 1, 2)
    ]
    assert revisions[0] == revisions[1] != revisions[2]
