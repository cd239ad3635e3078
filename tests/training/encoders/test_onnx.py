"""ONNX files of one's own: float and uint8 images, texts, and files that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from koine.errors import EncoderError
from koine.images import preprocess_image
from koine.streams import ImagePreprocess
from koine.texts import Tokens
from tests.koine.test_texts import small_bert
from tests.training.encoders.conftest import CAPTIONS
from training.encoders import Encoder, EncoderConfig, load_encoder

SPEC = ImagePreprocess(resize_size=20, crop_size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
WEIGHTS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


def write(
    path: Path,
    inputs: Sequence[tuple[str, int, Sequence[Any]]],
    nodes: list[Any],
    output: tuple[int, list[Any]] = (TensorProto.FLOAT, ["N", 5]),
    external: bool = False,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info("front/unit", *output)],  # a name that our front uses too
        [
            numpy_helper.from_array(WEIGHTS, "weights"),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    location = "weights.bin" if external else None
    onnx.save_model(
        model, path, save_as_external_data=external, location=location, size_threshold=0
    )
    return path


def float_file(path: Path, kind: int = TensorProto.FLOAT, **fields: Any) -> Path:
    """Mean over the pixels, then a projection; NCHW."""
    sizes = fields.pop("reshape", [0, 3, 16, 16])
    nodes = [
        helper.make_node("Constant", [], ["sizes"], value_ints=sizes),
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "sizes"], ["pixels"]),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["front/unit"]),
    ]
    shape = fields.pop("shape", ["N", 3, 16, 16])
    return write(path, [("image", kind, shape)], nodes, **fields)


def config(modality: str, weights: str, **fields: Any) -> EncoderConfig:
    if modality == "image":
        fields = {"preprocess": SPEC, **fields}
    return EncoderConfig(kind="onnx", modality=modality, name="own", weights=weights, **fields)  # type: ignore[arg-type]


def as_file(encoder: Encoder, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What the file to be copied into an artifact gives."""
    assert encoder.onnx_file is not None
    session = onnxruntime.InferenceSession(encoder.onnx_file, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["acts"]
    return np.asarray(session.run(["acts"], feeds)[0])


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_a_float_input_gets_the_normalising_front(
    tmp_path: Path, images: list[Image.Image], kind: int
) -> None:
    float_file(tmp_path / "own.onnx", kind)
    encoder = load_encoder(config("image", "own.onnx"), tmp_path)
    pixels = np.stack([preprocess_image(image, SPEC) for image in images])
    normalised = (pixels / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)
    expected_ND = normalised.mean((1, 2)) @ WEIGHTS
    batch = encoder.prepare(images)
    acts_ND = encoder.activations(batch)
    atol = 1e-5 if kind == TensorProto.FLOAT else 5e-3  # half-precision pixels
    np.testing.assert_allclose(acts_ND, expected_ND, atol=atol)
    assert isinstance(batch, np.ndarray)
    np.testing.assert_array_equal(as_file(encoder, {"image": batch}), acts_ND)
    assert (encoder.d_in, encoder.module, acts_ND.dtype) == (5, None, np.float32)
    np.testing.assert_allclose(encoder.activations(batch[:1]), acts_ND[:1], atol=1e-6)


def test_a_uint8_input_is_taken_as_it_is(tmp_path: Path, images: list[Image.Image]) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["plane"], value_ints=[1, 2]),
        helper.make_node("ReduceMean", ["pixels", "plane"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["front/unit"]),
    ]
    write(tmp_path / "own" / "model.onnx", [("x", TensorProto.UINT8, ["N", 16, 16, 3])], nodes)
    encoder = load_encoder(config("image", "own"), tmp_path)
    batch = encoder.prepare(images)
    assert isinstance(batch, np.ndarray)
    np.testing.assert_allclose(
        encoder.activations(batch), batch.mean((1, 2)) @ WEIGHTS, rtol=1e-4, atol=1e-3
    )


def test_external_weights_count_and_travel(tmp_path: Path) -> None:
    inside = load_encoder(config("image", str(float_file(tmp_path / "a.onnx"))))
    path = float_file(tmp_path / "b" / "model.onnx", external=True)
    outside = load_encoder(config("image", str(path)))
    batch = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(outside.activations(batch), inside.activations(batch))
    data = bytearray((path.parent / "weights.bin").read_bytes())
    data[3] ^= 1
    (path.parent / "weights.bin").write_bytes(data)
    changed = load_encoder(config("image", str(path)))
    assert len({e.identity.revision for e in (inside, outside, changed)}) == 3
    np.testing.assert_array_equal(as_file(outside, {"image": batch}), inside.activations(batch))


@pytest.mark.parametrize("token_types", [False, True])
def test_texts_with_and_without_token_types(tmp_path: Path, token_types: bool) -> None:
    """Counts of masked tokens, times weights; token types would add to them."""
    small_bert(tmp_path)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    nodes = [helper.make_node("Add", names[1:], ["mask"])] if token_types else []
    nodes += [
        helper.make_node("Mul", ["input_ids", "mask" if token_types else names[1]], ["kept"]),
        helper.make_node("Cast", ["kept"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["last"], value_ints=[1]),
        helper.make_node("ReduceMax", ["floats", "last"], ["most"], keepdims=1),
        helper.make_node("Concat", ["most", "most", "most"], ["three"], axis=1),
        helper.make_node("MatMul", ["three", "weights"], ["front/unit"]),
    ]
    inputs = [(name, TensorProto.INT64, ["N", "T"]) for name in names]
    write(tmp_path / "own.onnx", inputs, nodes)
    options = {"fixed_length": False}
    encoder = load_encoder(config("text", "own.onnx", context_length=12, kwargs=options), tmp_path)
    batch = encoder.prepare(CAPTIONS)
    assert isinstance(batch, Tokens)
    expected_ND = batch.ids_NT.max(1, keepdims=True) * WEIGHTS.sum(0)
    np.testing.assert_allclose(encoder.activations(batch), expected_ND, rtol=1e-5)
    feeds = {"input_ids": batch.ids_NT, "attention_mask": batch.mask_NT}
    np.testing.assert_allclose(as_file(encoder, feeds), expected_ND, rtol=1e-5)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str, modality: str = "image", **fields: Any) -> None:
        with pytest.raises(EncoderError, match=message):
            load_encoder(config(modality, str(path), **fields))

    (tmp_path / "text.onnx").write_text("no graph")
    refused(tmp_path / "text.onnx", "is no valid ONNX file.*export it again")
    fixed = float_file(tmp_path / "one.onnx", shape=[1, 3, 16, 16], reshape=[1, 3, 16, 16])
    refused(fixed, "does not run on two items.*dynamic batch axis")
    other = float_file(tmp_path / "size.onnx", reshape=[0, 3, 32, 32])
    refused(other, "does not run on two items.*size of the recipe's preprocessing")
    grey = float_file(tmp_path / "grey.onnx", shape=["N", 1, 16, 16])
    refused(grey, r"takes FLOAT \[None, 1, 16, 16\]; .*uint8 \[N, H, W, 3\] or float")
    tokens = [helper.make_node("ReduceMean", ["image", "axes"], ["front/unit"], keepdims=1)]
    shape = ("image", TensorProto.FLOAT, ["N", 3, 16, 16])
    unpooled = write(tmp_path / "u.onnx", [shape], tokens, (TensorProto.FLOAT, ["N", 3, 1, 1]))
    refused(unpooled, r"gives \(2, 3, 1, 1\) for two items, one vector each.*pooling")
    words = float_file(tmp_path / "words.onnx")
    refused(words, "no tokenizer at .*put its tokenizer.json there", "text", context_length=8)
    small_bert(tmp_path)
    refused(words, "has the inputs image; a text encoder takes", "text", context_length=8)
    refused(words, "state `context_length` in the recipe", "text")
