"""Graphs in fewer bits stay near float32, get smaller, and keep layers as told."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from koine.streams import ImagePreprocess, StreamSpec
from koine.texts import Tokens
from tests.tiny import identity
from training.export import quantise as q
from training.export.backbone import export_module
from training.export.fidelity import graph_acts, graph_inputs

SIDE = 32


class Convolutions(nn.Module):
    """Three convolutions with ReLU6, a residual, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, 2, 1)
        self.middle = nn.Conv2d(32, 32, 3, 1, 1, groups=32)
        self.last = nn.Conv2d(32, 64, 1)

    def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.first(images_NHWC.permute(0, 3, 1, 2).float() / 64))
        x = x + nn.functional.relu6(self.middle(x))
        return nn.functional.relu6(self.last(x)).mean((2, 3))


class Products(nn.Module):
    """Embeddings, two matrix products over tokens, and the masked mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(64, 32)
        self.one, self.two = nn.Linear(32, 96), nn.Linear(96, 48)

    def forward(self, ids_NT: torch.Tensor, mask_NT: torch.Tensor) -> torch.Tensor:
        x = self.two(torch.relu(self.one(self.words(ids_NT))))
        mask_NT1 = mask_NT.unsqueeze(-1).float()
        return (x * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("images") / "a.onnx"
    preprocess = ImagePreprocess(
        resize_size=SIDE, crop_size=SIDE, mean=(0.5, 0.5, 0.5), std=(1, 1, 1)
    )
    spec = StreamSpec(
        name="a", modality="image", d_in=64, encoder=identity("a"), preprocess=preprocess
    )
    export_module(Convolutions(), spec, path)
    return q.prepared(path, path.with_name("prepared.onnx"))


def pixels(count: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8) for _ in range(count // 8)]


def apart(path: Path, wanted: Path, batches: list[np.ndarray]) -> float:
    got_ND, wanted_ND = graph_acts(path, batches), graph_acts(wanted, batches)
    return float(np.linalg.norm(got_ND - wanted_ND) / np.linalg.norm(wanted_ND))


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_convolutions_are_calibrated_and_products_are_not(images: Path) -> None:
    assert q.method_for(images) == "static"
    assert len(q.layers(images, "static")) == 3


@pytest.mark.parametrize("calibration", q.CALIBRATIONS)
def test_static_int8_is_near(images: Path, tmp_path: Path, calibration: q.Calibration) -> None:
    out, batches = tmp_path / "small.onnx", pixels()
    inputs = [graph_inputs(batch) for batch in batches]
    q.quantise_static(images, out, inputs, calibration=calibration)
    assert "QuantizeLinear" in kinds(out)
    assert 0 < apart(out, images, batches) < 0.05  # 7 bits of 3 layers: 1 % each at most


def test_kept_layers_compute_in_float(images: Path, tmp_path: Path) -> None:
    out, batches = tmp_path / "small.onnx", pixels()
    inputs = [graph_inputs(batch) for batch in batches]
    ranges = tmp_path / "ranges"
    q.quantise_static(images, out, inputs, calibration="minmax", ranges=ranges)
    everything = kinds(out).count("DequantizeLinear")
    keep = q.layers(images, "static")
    q.quantise_static(images, out, [], calibration="minmax", keep=keep[:1], ranges=ranges)
    assert kinds(out).count("DequantizeLinear") < everything
    assert ranges.is_file()


def test_a_correction_is_added(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "corrected.onnx"
    out.write_bytes(images.read_bytes())
    q.correct(out, np.arange(64, dtype=np.float32))
    batches = pixels(8)
    shifted_ND = graph_acts(images, batches) + np.arange(64)
    np.testing.assert_allclose(graph_acts(out, batches), shifted_ND, rtol=1e-6)


def test_products_are_quantised_and_tables_halved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, small = tmp_path / "words.onnx", tmp_path / "small.onnx"
    ids_NT = torch.ones((2, 5), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of parts of torch that it uses
        torch.onnx.export(
            Products().eval(), (ids_NT, ids_NT), path, dynamo=True, output_names=["acts"],
            input_names=["input_ids", "attention_mask"], verbose=False, external_data=False,
        )  # fmt: skip
    prepared = q.prepared(path, tmp_path / "prepared.onnx")
    assert q.method_for(prepared) == "dynamic"
    q.quantise_dynamic(prepared, small)
    assert "MatMulInteger" in kinds(small) or "DynamicQuantizeMatMul" in kinds(small)
    q.halve(small, small)
    ids_NT = np.random.default_rng(0).integers(0, 64, (2, 5))
    tokens = [Tokens(ids_NT, np.ones_like(ids_NT))]
    got_ND, wanted_ND = graph_acts(small, tokens), graph_acts(path, tokens)
    assert np.linalg.norm(got_ND - wanted_ND) < 0.05 * np.linalg.norm(wanted_ND)


def test_halved_weights_take_half_and_round_once(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    q.halve(images, out)
    assert out.stat().st_size < 0.85 * images.stat().st_size
    assert 0 < apart(out, images, pixels(8)) < 2e-3  # half precision rounds by 2^-11
