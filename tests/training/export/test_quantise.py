"""Graphs in fewer bits stay near float32, get smaller, and keep layers as told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from koine.texts import Tokens
from training.export import quantise as q
from training.export.fidelity import graph_acts, graph_inputs
from training.export.inner import inner_values
from training.export.rounding import Rounding, least_error_scales, smooth
from training.export.sensitivity import fewest_kept, harm

SIDE = 32
CONVOLUTIONS = """<ir_version: 10, opset_import: ["": 20]>
graph (uint8[N, 32, 32, 3] image) => (float[N, 64] acts) {
    floats = Cast <to = 1> (image)
    normal = Mul (floats, small)
    pixels = Transpose <perm = [0, 3, 1, 2]> (normal)
    a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (pixels, w1, b1)
    b = Clip (a, zero, six)
    c = Conv <pads = [1, 1, 1, 1], group = 32> (b, w2, b2)
    d = Clip (c, zero, six)
    e = Add (b, d)
    f = Conv (e, w3, b3)
    g = Clip (f, zero, six)
    acts = ReduceMean <keepdims = 0> (g, sides)
}"""
PRODUCTS = """<ir_version: 10, opset_import: ["": 20]>
graph (int64[N, T] input_ids, int64[N, T] attention_mask) => (float[N, 48] acts) {
    words = Gather (table, input_ids)
    a = MatMul (words, w1)
    b = Add (a, b1)
    turned = Transpose <perm = [0, 2, 1]> (words)
    alike = MatMul (words, turned)
    weighed = MatMul (alike, words)
    more = MatMul (weighed, w3)
    c = Add (b, more)
    d = Relu (c)
    e = MatMul (d, w2)
    f = Add (e, b2)
    acts = ReduceMean <keepdims = 0> (f, tokens)
}"""


def graph_of(text: str, path: Path, **weights: np.ndarray) -> Path:
    model = parser.parse_model(text)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return q.prepared(path, path.with_name(f"prepared_{path.name}"))


def normal(*shape: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three convolutions with ReLU6, a residual, and the mean."""
    path = tmp_path_factory.mktemp("images") / "a.onnx"
    return graph_of(
        CONVOLUTIONS,
        path,
        small=np.array(1 / 64, np.float32),
        zero=np.array(0, np.float32),
        six=np.array(6, np.float32),
        sides=np.array([2, 3]),
        w1=normal(32, 3, 3, 3, seed=0, scale=0.2),
        b1=normal(32, seed=1),
        w2=normal(32, 1, 3, 3, seed=2, scale=0.3),
        b2=normal(32, seed=3),
        w3=normal(64, 32, 1, 1, seed=4, scale=0.2),
        b3=normal(64, seed=5),
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings, three products with weights and two without, and the mean."""
    path = tmp_path_factory.mktemp("texts") / "b.onnx"
    outliers = np.where(np.arange(32) % 8, 1, 20).astype(np.float32)
    return graph_of(
        PRODUCTS,
        path,
        table=normal(64, 32, seed=0, scale=0.2) * outliers,
        w1=normal(32, 96, seed=1, scale=0.2),
        b1=normal(96, seed=2),
        w2=normal(96, 48, seed=3, scale=0.1),
        b2=normal(48, seed=4),
        w3=normal(32, 96, seed=5, scale=0.001),
        tokens=np.array([1]),
    )


def pixels(count: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8) for _ in range(count // 8)]


def tokens(count: int = 32) -> list[Tokens]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, count // 8)
    ids = [rng.integers(0, 64, (8, int(length))) for length in lengths]
    return [Tokens(each, np.ones_like(each)) for each in ids]


def quantiser(
    graph: Path,
    folder: Path,
    batches: Sequence[np.ndarray] | Sequence[Tokens],
    calibration: q.Calibration = "minmax",
) -> q.Quantiser:
    return q.Quantiser(graph, folder, [graph_inputs(batch) for batch in batches], calibration)


def apart(path: Path, wanted: Path, batches: Sequence[np.ndarray] | Sequence[Tokens]) -> float:
    got_ND, wanted_ND = graph_acts(path, batches), graph_acts(wanted, batches)
    return float(np.linalg.norm(got_ND - wanted_ND) / np.linalg.norm(wanted_ND))


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("calibration", q.CALIBRATIONS)
def test_convolutions_in_int8_are_near(
    images: Path, tmp_path: Path, calibration: q.Calibration
) -> None:
    out, batches = tmp_path / "small.onnx", pixels()
    made = quantiser(images, tmp_path, batches, calibration)
    assert (made.body, made.ranges) == ("convolutions", calibration)
    assert len(made.layers) == 3
    assert made.always_kept == made.layers[:1]
    made.write(out)
    assert "QuantizeLinear" in kinds(out)
    assert 0 < apart(out, images, batches) < 0.02  # 8 bits: half a percent a layer


def test_products_in_int8_are_near_and_do_not_depend_on_the_batch(
    texts: Path, tmp_path: Path
) -> None:
    out, batches = tmp_path / "small.onnx", tokens()
    made = quantiser(texts, tmp_path, batches, "percentile")
    assert (made.body, made.ranges) == ("products", "minmax")
    assert len(made.layers) == 3
    assert made.always_kept == []
    made.write(out)
    assert kinds(out).count("QuantizeLinear") == 3
    assert 0 < apart(out, texts, batches) < 0.02  # as above
    (ids_NT, mask_NT), *_ = batches
    singles = [Tokens(ids_NT[i : i + 1], mask_NT[i : i + 1]) for i in range(len(ids_NT))]
    together_ND, alone_ND = graph_acts(out, batches[:1]), graph_acts(out, singles)
    np.testing.assert_allclose(alone_ND, together_ND, rtol=1e-4, atol=1e-5)  # float32 sums


def test_kept_layers_compute_in_float(images: Path, tmp_path: Path) -> None:
    out, batches = tmp_path / "small.onnx", pixels()
    made = quantiser(images, tmp_path, batches)
    made.write(out)
    everything = kinds(out).count("DequantizeLinear")
    made.write(out, made.layers[1:2])
    assert 0 < kinds(out).count("DequantizeLinear") < everything
    made.write(out, made.layers)
    assert "DequantizeLinear" not in kinds(out)
    assert apart(out, images, batches) == 0


def test_scales_err_least() -> None:
    w_CM = normal(6, 9, seed=9)
    scale_C = least_error_scales(w_CM)
    plain_C = np.abs(w_CM).max(1) / 127

    def error_C(scale_C: np.ndarray) -> np.ndarray:
        rounded_CM = np.clip(np.rint(w_CM / scale_C[:, None]), -127, 127) * scale_C[:, None]
        return np.square(rounded_CM - w_CM).sum(1)

    assert (error_C(scale_C) <= error_C(plain_C)).all()
    assert error_C(scale_C).sum() < 0.9 * error_C(plain_C).sum()


def test_biases_shift_in_quantised_layers_alone(images: Path, tmp_path: Path) -> None:
    inputs = [graph_inputs(batch) for batch in pixels()]
    rounding = Rounding.of(images, ("Conv",), inputs)
    last = list(rounding.layers)[-1]
    shifted = rounding.shifted(images, tmp_path / "shifted.onnx", ())
    names = [rounding.layers[last].output[0]]
    before, after = (next(inner_values(g, names, inputs))[names[0]] for g in (images, shifted))
    assert np.abs(after - before).max() > 0
    kept = rounding.shifted(images, tmp_path / "kept.onnx", list(rounding.layers))
    assert apart(kept, images, pixels()) == 0


def test_a_shift_is_what_rounding_takes_on_average(texts: Path) -> None:
    inputs = [graph_inputs(batch) for batch in tokens()]
    rounding = Rounding.of(texts, ("MatMul",), inputs)
    name, node = next(iter(rounding.layers.items()))
    weight = next(t for t in onnx.load(texts).graph.initializer if t.name == node.input[1])
    w_DC, scale_C = numpy_helper.to_array(weight), rounding.scales[weight.name]
    lost_DC = w_DC - np.clip(np.rint(w_DC / scale_C), -127, 127) * scale_C
    x = [values[node.input[0]] for values in inner_values(texts, [node.input[0]], inputs)]
    mean_D = np.mean([each.mean((0, 1)) for each in x], axis=0)
    np.testing.assert_allclose(rounding.shifts[name], mean_D @ lost_DC, rtol=1e-3, atol=1e-6)


def test_smoothing_changes_nothing_but_the_channels_sizes(texts: Path, tmp_path: Path) -> None:
    inputs = [graph_inputs(batch) for batch in tokens()]
    smoothed = smooth(texts, tmp_path / "smooth.onnx", inputs)
    assert apart(smoothed, texts, tokens()) < 1e-5  # float32: other factors, the same products

    def unevenness(graph: Path) -> float:
        model = onnx.load(graph)
        first = next(n for n in model.graph.node if n.op_type == "MatMul")
        x = next(inner_values(graph, [first.input[0]], inputs))[first.input[0]]
        largest_D = np.abs(x).reshape(-1, x.shape[-1]).max(0)
        return float(largest_D.max() / np.median(largest_D))

    assert unevenness(smoothed) < unevenness(texts) / 3


def test_the_layer_that_rounds_worst_is_told_from_one_run(texts: Path, tmp_path: Path) -> None:
    batches = tokens()
    made = quantiser(texts, tmp_path, batches)
    out = tmp_path / "small.onnx"
    made.write(out)
    model = onnx.load(out)
    worst = made.layers[1]
    node = next(n for n in model.graph.node if n.name == worst)
    dequantise = next(n for n in model.graph.node if node.input[1] in n.output)
    scale = next(t for t in model.graph.initializer if t.name == dequantise.input[1])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 1.5, scale.name))
    onnx.save(model, out)
    inputs = [graph_inputs(batch) for batch in batches]
    found = harm(texts, out, made.layers, inputs)
    assert max(found, key=lambda layer: found[layer]) == worst


def test_the_fewest_layers_stay_in_float() -> None:
    harms = {"b": 0.2, "d": 0.1, "a": 0.01, "c": 0.0}
    written: list[tuple[str, ...]] = []

    def write(keep: Sequence[str]) -> float:
        written.append(tuple(keep))
        return 1 - sum(value for name, value in harms.items() if name not in keep)

    assert fewest_kept(list(harms), write, 0.95) == 2
    assert written[-1] == ("b", "d")
    assert len(written) <= 4


def test_a_correction_is_added(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "corrected.onnx"
    out.write_bytes(images.read_bytes())
    q.correct(out, np.arange(64, dtype=np.float32))
    batches = pixels(8)
    shifted_ND = graph_acts(images, batches) + np.arange(64)
    np.testing.assert_allclose(graph_acts(out, batches), shifted_ND, rtol=1e-6)


@pytest.mark.parametrize("graph", ["images", "texts"])
def test_halved_weights_take_half_and_round_once(
    graph: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, out = request.getfixturevalue(graph), tmp_path / "half.onnx"
    q.halve(source, out)
    assert out.stat().st_size < 0.85 * source.stat().st_size
    batches = pixels(8) if graph == "images" else tokens(8)
    assert 0 < apart(out, source, batches) < 2e-3  # half precision rounds by 2^-11
