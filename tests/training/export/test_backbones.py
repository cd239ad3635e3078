"""Backbones of every kind, exported: ONNX Runtime gives what torch gives, for any batch."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from koine.errors import ExportError
from koine.sessions import CPU, Session
from koine.texts import Tokens
from tests.tiny import image_spec, write_tokenizer
from training.encoders import Encoder, EncoderConfig, load_encoder
from training.export import backbone
from training.export.backbone import export_module
from training.export.build import backbone_writer
from training.export.parity import BACKBONE_TOLERANCE
from training.export.samples import sample_images, sample_texts

log = logging.getLogger(__name__)

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2
    },
}  # fmt: skip
ENCODERS = {
    "open_clip image": EncoderConfig(
        kind="open_clip", modality="image", name="ViT-B-32", weights="random:0", kwargs=TINY_CLIP
    ),
    "open_clip text": EncoderConfig(
        kind="open_clip", modality="text", name="ViT-B-32", weights="random:0", kwargs=TINY_CLIP
    ),
    "timm vit cls": EncoderConfig(
        kind="timm", modality="image", name="test_vit", weights="random:0", pooling="cls",
        kwargs={"img_size": 64, "depth": 1},
    ),
    "timm vit registers": EncoderConfig(
        kind="timm", modality="image", name="test_vit2", weights="random:0", pooling="avg",
        kwargs={"img_size": 64, "depth": 1},
    ),
    "timm vit map": EncoderConfig(
        kind="timm", modality="image", name="test_vit3", weights="random:0", pooling="map",
        kwargs={"img_size": 64, "depth": 1},
    ),
    "timm convnet": EncoderConfig(
        kind="timm", modality="image", name="test_efficientnet", weights="random:0", pooling="avg"
    ),
    "transformers": EncoderConfig(
        kind="transformers", modality="text", name="tiny-bert", weights="tiny-bert",
        context_length=16,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoders folder with a tiny BERT."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    BertModel(shape).save_pretrained(folder / "tiny-bert")
    write_tokenizer(folder / "tiny-bert" / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def convnet() -> Encoder:
    return load_encoder(ENCODERS["timm convnet"])


@pytest.fixture(scope="module")
def exported(convnet: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The convnet's graph."""
    path = tmp_path_factory.mktemp("convnet") / "model.onnx"
    export_module(convnet.module, convnet.stream("s"), path)  # pyright: ignore
    return path


def feeds(batch: np.ndarray | Tokens) -> dict[str, np.ndarray]:
    if isinstance(batch, Tokens):
        return {"input_ids": batch.ids_NT, "attention_mask": batch.mask_NT}
    return {"image": batch}


def prepared(encoder: Encoder, count: int) -> np.ndarray | Tokens:
    if encoder.modality == "image":
        return encoder.prepare(sample_images(count))
    return encoder.prepare(sample_texts(["red square", "a cat on a photo"], count))


def farthest(encoder: Encoder, path: Path, counts: tuple[int, ...] = (1, 2, 7)) -> float:
    """Largest difference over the batch sizes, relative to an item's norm."""
    session = Session(path, [CPU], threads=1)
    apart: list[float] = []
    for count in counts:
        batch = prepared(encoder, count)
        wanted_ND = encoder.activations(batch)
        got_ND = session.run(feeds(batch))["acts"]
        assert got_ND.dtype == np.float32
        assert got_ND.shape == (count, encoder.d_in)
        norms_N = np.linalg.norm(wanted_ND, axis=1)
        apart.append(float((np.linalg.norm(got_ND - wanted_ND, axis=1) / norms_N).max()))
    return max(apart)


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_graph_gives_what_torch_gives(kind: str, folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(ENCODERS[kind], folder)
    path = tmp_path / "backbone.onnx"
    backbone_writer(encoder, encoder.stream("stream"))(path)
    assert farthest(encoder, path) < BACKBONE_TOLERANCE
    inputs = {"image"} if encoder.modality == "image" else {"input_ids", "attention_mask"}
    assert set(Session(path, [CPU], threads=1).inputs) == inputs


def test_exporting_twice_gives_the_same_bytes_and_names_no_path(
    convnet: Encoder, exported: Path, tmp_path: Path
) -> None:
    export_module(convnet.module, convnet.stream("s"), tmp_path / "two")  # pyright: ignore
    one, two = exported.read_bytes(), (tmp_path / "two").read_bytes()
    assert one == two
    for trace in (b"/training/", b"site-packages", b".py"):
        assert trace not in one


def test_an_onnx_file_joins(convnet: Encoder, exported: Path, tmp_path: Path) -> None:
    config = EncoderConfig(
        kind="onnx",
        modality="image",
        name="own",
        weights=str(exported),
        preprocess=convnet.preprocess,  # pyright: ignore
    )
    encoder = load_encoder(config)
    backbone_writer(encoder, encoder.stream("s"))(tmp_path / "copy.onnx")
    assert farthest(encoder, tmp_path / "copy.onnx") == 0


class Projected(nn.Module):
    """The mean pixel through a wide layer."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(3, 4096)

    def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
        return self.project(images_NHWC.float().mean((1, 2)) / 255)


def test_large_weights_lie_in_a_file_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "EXTERNAL_ABOVE", 1000)
    module, path = Projected(), tmp_path / "big.onnx"
    export_module(module, image_spec("wide", 4096, 8), path)
    assert (tmp_path / "big.onnx.data").stat().st_size > path.stat().st_size
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    got_ND = Session(path, [CPU], threads=1).run({"image": images})["acts"]
    with torch.no_grad():
        wanted_ND = module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(got_ND, wanted_ND, atol=1e-5)  # float32 sums of three terms


class Undecided(nn.Module):
    """Takes a branch by the pixels' values, which no graph without control flow can."""

    def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
        pixels = images_NHWC.float().mean((1, 2))
        return pixels * 2 if bool(pixels.sum() > 0) else pixels


def test_a_module_that_torch_cannot_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"backbone of stream `odd`: .*as an ONNX file instead"):
        export_module(Undecided(), image_spec("odd", 3, 8), tmp_path / "odd.onnx")
    assert not (tmp_path / "odd.onnx").exists()


LARGE = {
    "clip_image": EncoderConfig(
        kind="open_clip", modality="image", name="ViT-L-14", weights="random:0"
    ),
    "clip_text": EncoderConfig(
        kind="open_clip", modality="text", name="ViT-L-14", weights="random:0"
    ),
    "dino": EncoderConfig(
        kind="timm", modality="image", name="vit_large_patch14_reg4_dinov2.lvd142m",
        weights="random:0", pooling="cls", kwargs={"img_size": 224},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_the_papers_encoders_export(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    encoder = load_encoder(LARGE[name])
    path = tmp_path / f"{name}.onnx"
    backbone_writer(encoder, encoder.stream(name))(path)
    exported = time.monotonic()
    error = farthest(encoder, path, (1, 3))
    log.info(
        f"{name}: exported in {exported - started:.0f} s, compared in "
        f"{time.monotonic() - exported:.0f} s, apart by {error:.1e}, "
        f"{sum(f.stat().st_size for f in tmp_path.iterdir()) / 1e6:.0f} MB"
    )
    assert error < BACKBONE_TOLERANCE
    onnx.checker.check_model(str(path))
