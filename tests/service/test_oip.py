"""Tensors of the Open Inference Protocol: what they mean, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from koine.artifact import Artifact
from koine.errors import (
    InputError,
    KoineError,
    RequestError,
    TextError,
    TooLargeError,
    UnknownDictionaryError,
)
from service import oip
from service.core import Core
from service.oip import Tensor
from service.settings import Settings
from service.tensors import raw_bytes, raw_tensor, typed_tensor
from tests.service.inputs import png
from tests.tiny import NUM_CONCEPTS, K

MODEL = ("tiny", "")


def texts(*values: bytes) -> Tensor:
    """The input `text`."""
    return Tensor("text", "BYTES", (len(values),), list(values))


def images(*values: bytes) -> Tensor:
    """The input `image`."""
    return Tensor("image", "BYTES", (len(values),), list(values))


def activations(array_ND: np.ndarray, stream: str = "imported") -> Tensor:
    """The input of a stream's activations."""
    return Tensor(f"activations.{stream}", "FP32", array_ND.shape, array_ND)


def serving(artifact: Artifact, body: Callable[[Core], Awaitable[None]]) -> None:
    """Runs `body` with a ready core."""

    async def run() -> None:
        core = Core(Settings(artifact=str(artifact.path), provider="cpu", threads=1))
        await core.start()
        while not core.dictionaries._served:
            await asyncio.sleep(0.01)
        await body(core)
        await core.close()

    asyncio.run(run())


def by_name(tensors: list[Tensor]) -> dict[str, Any]:
    """Arrays by name."""
    return {tensor.name: tensor.data for tensor in tensors}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ([], "no inputs; send `image`"),
        ([texts(b"a"), texts(b"b")], "`text` is given twice"),
        ([texts(b"a"), images(b"a", b"b")], r"differ in their first dimension: `text` \[1\]"),
        ([Tensor("picture", "BYTES", (1,), [b"a"])], "unknown input `picture`"),
        ([Tensor("text", "FP32", (1,), np.zeros(1, np.float32))], "`text` is BYTES, got 'FP32'"),
        ([Tensor("text", "BYTES", (1, 2), [b"a", b"b"])], r"has shape \[N\] .* got \[1, 2\]"),
        ([Tensor("text", "BYTES", (0,), [])], "with N from 1"),
        ([Tensor("text", "BYTES", (2,), [b"a"])], "has 1 elements for shape"),
        ([activations(np.zeros(3, np.float32))], r"has shape \[N, D\]"),
        ([Tensor("activations.imported", "INT32", (1, 1), np.zeros((1, 1)))], "is FP32"),
    ],
)
def test_inputs_that_are_none(tensors: list[Tensor], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        oip.items_of(tensors, {}, max_items=8)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"mode": "both"}, "`mode`"),
        ({"top_k": 0}, "`top_k`"),
        ({"topk": 3}, "unknown parameter `topk`; this service has mode, partial, streams, top_k"),
        ({"sequence_id": 7}, "unknown parameter `sequence_id`"),
        ({"partial": "yes"}, "`partial` must be true or false, got 'yes'"),
    ],
)
def test_parameters_that_are_none(parameters: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        oip.items_of([texts(b"a")], parameters, max_items=8)


def test_too_many_rows_are_refused_before_they_are_items() -> None:
    with pytest.raises(TooLargeError, match="the limit is 8"):
        oip.items_of([activations(np.zeros((2**30, 0), np.float32))], {}, max_items=8)


def test_parameters_are_options() -> None:
    given = {"mode": "joint", "top_k": 3, "streams": "tiny_a, tiny_b", "partial": True}
    items, options, partial = oip.items_of(
        [texts(b"a"), images(b"")], given | {"priority": 1, "binary_data_output": True}, max_items=8
    )
    assert (options.mode, options.top_k, options.streams) == ("joint", 3, ["tiny_a", "tiny_b"])
    assert partial
    assert (items[0].text, items[0].image, items[0].id) == ("a", None, "0")


def test_an_element_that_is_empty_means_none() -> None:
    items, _, _ = oip.items_of([texts(b"a", b"", b""), images(b"", b"x", b"")], {}, max_items=8)
    assert [(item.text, item.image) for item in items] == [("a", None), (None, b"x"), (None, None)]
    assert [item.error is None for item in items] == [True, True, False]
    items, _, _ = oip.items_of([texts(b"\xff")], {}, max_items=8)
    assert isinstance(items[0].error, TextError)


def test_rows_are_codes_and_pads(tiny_artifact: Artifact) -> None:
    async def body(core: Core) -> None:
        sent = [texts(b"a dog", b""), images(b"", png(1))]
        encoded, tensors = await oip.infer(core, MODEL, sent, {"top_k": 3})
        found = by_name(tensors)
        streams, kinds = ("tiny_a", "tiny_b", "tiny_text"), ("indices", "values", "fvu")
        assert list(found) == [f"{name}.{kind}" for name in streams for kind in kinds]
        assert found["tiny_text.indices"].shape == (2, K)
        assert found["tiny_text.indices"].dtype == np.int32
        assert (found["tiny_text.indices"][0] >= 0).sum() == 3
        assert (found["tiny_text.indices"][1] == -1).all()
        assert (found["tiny_text.values"][1] == 0).all()
        assert np.isnan(found["tiny_text.fvu"]).tolist() == [False, True]
        answer = encoded.answers[1]
        assert isinstance(answer, dict)
        assert (found["tiny_a.indices"][1, :3] == answer["tiny_a"].indices_K[:3]).all()
        assert encoded.dictionary.encoder.num_concepts == NUM_CONCEPTS

    serving(tiny_artifact, body)


def test_a_bad_item_refuses_the_request_unless_partial(tiny_artifact: Artifact) -> None:
    async def body(core: Core) -> None:
        sent = [images(png(1), b"no image", png(2))]
        with pytest.raises(InputError, match="item 1: .*no image of a known format"):
            await oip.infer(core, MODEL, sent, {})
        _, tensors = await oip.infer(core, MODEL, sent, {"partial": True})
        found = by_name(tensors)
        assert (found["tiny_a.indices"][1] == -1).all()
        assert np.isnan(found["tiny_a.fvu"]).tolist() == [False, True, False]
        _, tensors = await oip.infer(core, MODEL, [images(b"x")], {"partial": True})
        assert np.isnan(by_name(tensors)["tiny_a.fvu"]).all()

    serving(tiny_artifact, body)


def test_only_what_is_wanted(tiny_artifact: Artifact) -> None:
    async def body(core: Core) -> None:
        wanted = ["tiny_b.fvu", "tiny_b.indices"]
        encoded, tensors = await oip.infer(core, MODEL, [images(png(1))], {}, wanted=wanted)
        assert [tensor.name for tensor in tensors] == wanted
        assert [list(a) for a in encoded.answers if isinstance(a, dict)] == [["tiny_b"]]
        # joint codes are the same whatever is asked for
        joint = {"mode": "joint"}
        _, alone = await oip.infer(core, MODEL, [images(png(1))], joint, wanted=wanted)
        _, together = await oip.infer(core, MODEL, [images(png(1))], joint)
        assert (alone[1].data == by_name(together)["tiny_b.indices"]).all()
        for name in ("tiny_b", "tiny_b.codes", "nowhere.fvu"):
            with pytest.raises(RequestError, match=f"unknown output `{name}`"):
                await oip.infer(core, MODEL, [images(png(1))], {}, wanted=[name])

    serving(tiny_artifact, body)


def test_models_are_dictionaries(tiny_artifact: Artifact) -> None:
    async def body(core: Core) -> None:
        assert oip.find(core, "tiny", "0.1") is oip.find(core, "tiny")
        for model in (("tiny", "9"), ("other", "")):
            with pytest.raises(UnknownDictionaryError):
                await oip.infer(core, model, [texts(b"a")], {})
        metadata = oip.model_metadata(core.dictionaries.find())
        assert (metadata["name"], metadata["versions"]) == ("tiny", ["0.1"])
        inputs = {tensor["name"]: tensor for tensor in metadata["inputs"]}
        assert inputs["image"] == {"name": "image", "datatype": "BYTES", "shape": [-1]}
        assert inputs["activations.imported"]["shape"][0] == -1
        outputs = {tensor["name"]: tensor["shape"] for tensor in metadata["outputs"]}
        assert outputs["imported.indices"] == [-1, K]
        assert outputs["imported.fvu"] == [-1]
        config = oip.model_config(core.dictionaries.find(), core.settings)
        assert config["max_batch_size"] == core.settings.max_items
        assert {"name": "tiny_a.values", "data_type": "TYPE_FP32", "dims": [K]} in config["output"]

    serving(tiny_artifact, body)


def test_spending_comes_before_encoding(tiny_artifact: Artifact) -> None:
    def refuse(items: int) -> None:
        raise KoineError(f"{items} items")

    async def body(core: Core) -> None:
        with pytest.raises(KoineError, match="2 items"):
            await oip.infer(core, MODEL, [texts(b"a", b"b")], {}, spend=refuse)

    serving(tiny_artifact, body)


def test_raw_bytes_there_and_back() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = raw_tensor("x", "FP32", [2, 3], array.tobytes())
    assert (np.asarray(tensor.data) == array).all()
    assert raw_bytes(tensor) == array.tobytes()
    elements = typed_tensor("x", "BYTES", [3], [b"a", b"", b"long" * 100])
    assert raw_tensor("x", "BYTES", [3], raw_bytes(elements)) == elements


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "words"),
    [
        ("FP32", [2, 3], bytes(20), "has 20 bytes; shape .* takes 24"),
        ("FP32", [-1, 3], bytes(12), "one or two sizes"),
        ("FP32", [], b"", "one or two sizes"),
        ("FP32", [1, 1, 1], bytes(4), "one or two sizes"),
        ("FP32", [2**31, 0], b"", "one or two sizes"),
        ("FP64", [1], bytes(8), "has datatype 'FP64'"),
        ("BYTES", [1], b"\x05\x00\x00\x00abc", "not 1 elements"),
        ("BYTES", [1], b"\x05\x00", "not 1 elements"),
        ("BYTES", [2], b"\x01\x00\x00\x00a", "not 2 elements"),
        ("BYTES", [1], b"\x01\x00\x00\x00ab", "not 1 elements"),
        ("BYTES", [2**31 - 1], b"\xff\xff\xff\xff", "not 2147483647 elements"),
    ],
)
def test_raw_bytes_that_do_not_fit(datatype: str, shape: list[int], raw: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        raw_tensor("x", datatype, shape, raw)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_too_many_tensors_or_one_twice_are_refused(kind: str) -> None:
    with pytest.raises(RequestError, match=f"the {kind} `a` is given twice"):
        oip._check_names(kind, ["a", "b", "a"])
    with pytest.raises(RequestError, match=f"has 257 {kind}s, the limit is 256"):
        oip._check_names(kind, [str(n) for n in range(257)])
    oip._check_names(kind, [str(n) for n in range(256)])
