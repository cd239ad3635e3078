from pathlib import Path

import numpy as np
import pytest
import torch

from koine.sessions import CPU, Session
from training.demo.streams import ENCODERS, STREAMS
from training.encoders.config import EncoderConfig
from training.encoders.encoder import Encoder
from training.encoders.load import load_encoder
from training.export.backbone import export_module
from training.localisation.patches import FINE_ENOUGH, patch_module
from training.localisation.reference import last_map, relevancy
from training.model import Stream

TOLERANCE = 1e-4  # two orders of summing through a network, as in `training.export.parity`


@pytest.fixture(scope="module", params=["clip_image", "vision"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return load_encoder(STREAMS[request.param], ENCODERS)


def some_images(side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, side, side, 3), generator=generator, dtype=torch.uint8)


def test_the_mean_of_the_patches_is_the_activations(encoder: Encoder) -> None:
    module = patch_module(encoder, moves=1)
    assert module is not None
    assert encoder.module is not None
    images = some_images(64)
    with torch.no_grad():
        patches_NPD, acts_ND = module(images), encoder.module(images)
    assert patches_NPD.shape == (3, module.side**2, encoder.d_in)
    apart = (patches_NPD.mean(1) - acts_ND).norm() / acts_ND.norm()
    assert apart < TOLERANCE


def test_a_coarse_map_is_made_fine_enough_and_keeps_its_places(encoder: Encoder) -> None:
    module = patch_module(encoder)
    assert module is not None
    assert module.side >= FINE_ENOUGH
    image = np.full((1, 64, 64, 3), 128, np.uint8)
    marked = image.copy()
    marked[:, 4:20, 40:60] = (250, 10, 10)
    change_NPD = module.fine(marked) - module.fine(image)
    change_HW = np.linalg.norm(change_NPD[0], axis=-1).reshape(module.side, module.side)
    down, across = np.unravel_index(int(change_HW.argmax()), change_HW.shape)
    assert down < module.side / 2 <= across


def test_texts_and_unsplit_pools_have_no_patches() -> None:
    assert patch_module(load_encoder(STREAMS["clip_text"], ENCODERS)) is None
    token = EncoderConfig(
        kind="timm",
        modality="image",
        name="vit_tiny_patch16_224",
        weights="random:0",
        pooling="cls",
        kwargs={"img_size": 32, "depth": 1},
    )
    assert patch_module(load_encoder(token)) is None


def test_the_graph_computes_what_torch_does(tmp_path: Path, encoder: Encoder) -> None:
    module = patch_module(encoder)
    assert module is not None
    export_module(module, encoder.stream("eye"), tmp_path / "eye.onnx", output="patches")
    images = some_images(64)
    found = Session(tmp_path / "eye.onnx", [CPU]).run({"image": images.numpy()})["patches"]
    with torch.no_grad():
        wanted = module(images).numpy()
    assert found.shape == wanted.shape
    apart = np.linalg.norm(found - wanted, axis=-1).max() / np.linalg.norm(wanted, axis=-1).max()
    assert apart < TOLERANCE


def test_averaged_tokens_split() -> None:
    averaged = EncoderConfig(
        kind="timm",
        modality="image",
        name="vit_tiny_patch16_224",
        weights="random:0",
        pooling="avg",
        kwargs={"img_size": 32, "depth": 1},
    )
    module = patch_module(load_encoder(averaged), moves=1)
    assert module is not None
    assert module.side == 2


def test_the_reference_of_an_average_pool_sums_to_nothing() -> None:
    # a pre-code of unit-norm activations does not change with their scale, so by Euler's theorem
    # gradient · activation over the whole map is zero
    encoder = load_encoder(STREAMS["vision"], ENCODERS)
    module = patch_module(encoder, moves=1)
    assert module is not None
    heat_NHW = relevancy(module, Stream(encoder.d_in, 8), last_map(module, some_images(64)), 3)
    assert heat_NHW.shape == (3, 2, 2)
    assert heat_NHW.abs().max() > 0
    assert torch.allclose(heat_NHW.sum((1, 2)), torch.zeros(3), atol=1e-5)


def test_the_reference_of_an_attention_pool_is_positive() -> None:
    encoder = load_encoder(STREAMS["clip_image"], ENCODERS)
    module = patch_module(encoder, moves=1)
    assert module is not None
    heat_NHW = relevancy(module, Stream(encoder.d_in, 8), last_map(module, some_images(64)), 3)
    assert (heat_NHW >= 0).all()
    assert heat_NHW.max() > 0
