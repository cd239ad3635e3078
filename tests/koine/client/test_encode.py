"""What clients answer equals what the encoder computes, over every transport, at any size."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from koine.client import Activations, AsyncClient, Client, Encoded, Image, Item, Text
from koine.codes import Codes
from koine.encoder import ConceptEncoder
from koine.errors import ClientError, ImageError, InputError, RequestError, UnknownStreamError
from koine.images import decode_image
from tests.koine.client.conftest import Run
from tests.koine.client.service_thread import Served
from tests.service.inputs import file_bytes, pixels, png

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
"""How far an item's values may move with what shares its batch (docs/api.md)."""
WORDS = ("a", "dog", "cat", "on", "grass", "red", "square", "circle", "photo")


def rows(count: int, width: int = 10, seed: int = 3) -> np.ndarray:
    """Activations of the stream `imported`."""
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def text(n: int) -> str:
    """Another text for each n, up to 729."""
    return " ".join(WORDS[(n // 9**place) % 9] for place in range(3))


def assert_same(got: Encoded, wanted: Encoded) -> None:
    """The same items, supports and errors; values up to float noise."""
    assert [item.id for item in got.items] == [item.id for item in wanted.items]
    for mine, other in zip(got.items, wanted.items, strict=True):
        assert mine.error == other.error
        assert mine.codes.keys() == other.codes.keys()
        for name, codes in mine.codes.items():
            np.testing.assert_array_equal(codes.indices_K, other.codes[name].indices_K)
            np.testing.assert_allclose(codes.values_K, other.codes[name].values_K, **CLOSE)
            np.testing.assert_allclose(codes.fvu, other.codes[name].fvu, **CLOSE)
            assert codes.names == other.codes[name].names


def assert_codes(got: Codes, wanted: Codes, **tolerance: Any) -> None:
    """The same padded rows."""
    k = got.indices_NK.shape[1]
    assert (wanted.indices_NK[:, k:] == -1).all()
    np.testing.assert_array_equal(got.indices_NK, wanted.indices_NK[:, :k])
    np.testing.assert_allclose(got.values_NK, wanted.values_NK[:, :k], **tolerance)
    np.testing.assert_allclose(got.fvu_N, wanted.fvu_N, **tolerance)


def test_activations_equal_the_encoder_bit_by_bit(ask: Run, encoder: ConceptEncoder) -> None:
    acts_ND = rows(12)
    # one item each: the same graph over the same batch
    got = ask(
        "encode_activations", {"imported": acts_ND}, client={"max_items": 1, "concurrency": 1}
    )
    assert got.dictionary == "tiny@0.1"
    for n in range(12):
        wanted = encoder.encode({"imported": acts_ND[n : n + 1]})["imported"]
        one = Encoded(None, got.items[n : n + 1]).stream("imported")
        assert_codes(one, wanted, rtol=0, atol=0)


def test_packed_values_are_rounded_to_f16(call: Run, served: Served, encoder: Any) -> None:
    acts_ND = rows(6)
    options: dict[str, Any] = {"client": {"max_items": 1, "concurrency": 1}, "packed": True}
    got = call(served.http, "encode_activations", {"imported": acts_ND}, **options)
    for n in range(6):
        wanted = encoder.encode({"imported": acts_ND[n : n + 1]})["imported"]
        values_NK = wanted.values_NK.astype(np.float16).astype(np.float32)
        one = Encoded(None, got.items[n : n + 1]).stream("imported")
        assert_codes(one, wanted._replace(values_NK=values_NK), rtol=0, atol=0)


def test_grpc_refuses_packed(served: Served) -> None:
    with Client(served.grpc) as client, pytest.raises(ClientError, match="leave `packed` out"):
        client.encode([Text("a")], packed=True)


def test_images_from_files_bytes_and_memory(
    ask: Run, encoder: ConceptEncoder, tmp_path: Path
) -> None:
    images = [pixels(n, 33 + n, 50) for n in range(4)]
    turned = Pillow.Exif()
    turned[0x0112] = 6
    path = tmp_path / "ünïcode photo.jpg"
    path.write_bytes(file_bytes(images[0], "JPEG", quality=90, exif=turned))
    (tmp_path / "b.png").write_bytes(png(5))
    sources = [path, Pillow.open(path), str(tmp_path / "b.png"), file_bytes(images[1]), images[1]]
    sources += [images[2].convert("CMYK"), images[2].convert("RGBA"), images[3].convert("P")]
    got = ask("encode_images", sources, streams=["tiny_a"])
    assert not got.failed
    decoded = [decode_image(path.read_bytes())] * 2 + [decode_image(png(5))] + [images[1]] * 2
    decoded += [images[2].convert("CMYK").convert("RGB"), images[2]]
    decoded += [images[3].convert("P").convert("RGB")]
    batch = np.stack([encoder.preprocess("tiny_a", image) for image in decoded])
    wanted = encoder.encode({"tiny_a": encoder.activations("tiny_a", batch)})["tiny_a"]
    assert_codes(got.stream("tiny_a"), wanted, **CLOSE)


def test_every_option_and_kind_of_item(ask: Run, encoder: ConceptEncoder) -> None:
    acts_ND = rows(2)
    inputs = [
        Item(image=png(1), text="a dog", id="both"),
        Activations({"imported": acts_ND[0]}, id="ὁδός 🛣"),
        Activations({"imported": acts_ND[1].tolist()}),
        Text("a red square"),
        Image(png(2), id='\u0000 "quoted"\n'),
    ]
    got = ask("encode", inputs, mode="joint", top_k=3, names=True, dictionary="tiny")
    assert [item.id for item in got.items] == ["both", "ὁδός 🛣", "2", "3", '\u0000 "quoted"\n']
    supports = [set(codes.indices_K.tolist()) for codes in got.items[0].codes.values()]
    assert set(got.items[0].codes) == {"tiny_a", "tiny_b", "tiny_text"}
    assert all(1 <= len(support) <= 3 for support in supports)
    assert all(len(c.names or ()) == len(c.indices_K) for i in got.items for c in i.codes.values())
    wanted = encoder.encode({"imported": acts_ND}, "joint")["imported"]
    kept = wanted._replace(indices_NK=wanted.indices_NK[:, :3], values_NK=wanted.values_NK[:, :3])
    assert_codes(Encoded(None, got.items[1:3]).stream("imported"), kept, **CLOSE)
    assert got.timings.total > 0


def test_a_bad_item_costs_itself_only(ask: Run, tmp_path: Path) -> None:
    inputs = [
        Text("a dog"),
        Image(b"no image"),
        Image(tmp_path / "nowhere.png", id="gone"),
        Text("lone \ud800"),
        Text("a", id="lone \ud800"),
        Text("a", id="x" * 257),
        Item(),
        Activations({"imported": np.full(10, np.nan, np.float32)}),
        Activations({"imported": rows(2)}),
        Activations({"imported": ["a"]}),
        Text("a cat", id="last"),
    ]
    got = ask("encode", inputs)
    kinds = {n: error.type.removeprefix("urn:koine:error:") for n, error in got.failed.items()}
    assert kinds == {
        1: "image", 2: "image", 3: "text", 4: "request", 5: "request", 6: "request",
        7: "activations", 8: "activations", 9: "activations",
    }  # fmt: skip
    assert [got.items[n].id for n in (0, 2, 4, 10)] == ["0", "gone", "4", "last"]
    assert "nowhere.png" in got.failed[2].detail
    with pytest.raises(ImageError) as caught:
        got.raise_for_errors()
    assert caught.value.__notes__ == ["item 1 ('1'), 9 items failed"]
    matrix = got.to_scipy("tiny_text", 64)
    assert np.flatnonzero(np.diff(matrix.indptr)).tolist() == [0, 10]


def test_items_of_errors_only_send_nothing_but_are_answered(ask: Run) -> None:
    got = ask("encode", [Item(), Item()])
    assert (got.dictionary, list(got.failed)) == (None, [0, 1])


def test_bare_strings_are_refused_with_the_two_ways_out(ask: Run) -> None:
    got = ask("encode", iter(["a dog"]))
    assert "Text(...) or Image(...)" in got.failed[0].detail
    for method, one in (("encode_texts", "a dog"), ("encode_images", "photo.jpg")):
        with pytest.raises(InputError, match="give a list"):
            ask(method, one)


def test_five_thousand_inputs_keep_their_order(ask: Run) -> None:
    got = ask("encode", (Text(text(n), id=f"i{n}") for n in range(5000)), timeout=120)
    assert [item.id for item in got.items] == [f"i{n}" for n in range(5000)]
    assert not got.failed
    codes = got.stream("tiny_text")
    # the same text has the same codes wherever it stands
    np.testing.assert_array_equal(codes.indices_NK[:700], codes.indices_NK[729:1429])
    few = ask("encode", [Text(text(n), id=f"i{n}") for n in range(0, 40, 7)])
    assert_same(few, Encoded(None, got.items[:40:7]))


def test_a_stream_yields_in_order_and_reads_as_it_goes(call: Run, served: Served) -> None:
    read: list[int] = []

    def inputs() -> Any:
        for n in range(400):
            read.append(n)
            yield Text(text(n))

    with Client(served.http, max_items=10, concurrency=2) as client:
        items = client.encode_stream(inputs())
        assert next(items).id == "0"
        assert len(read) <= 60  # two requests run, two wait, one is packed
        items.close()  # pyright: ignore[reportAttributeAccessIssue]
    got = call(served.http, "encode_stream", inputs(), client={"max_items": 10})
    assert [item.id for item in got] == [str(n) for n in range(400)]
    assert {item.dictionary for item in got} == {"tiny@0.1"}


def test_every_transport_gives_the_same(ask: Run, served: Served) -> None:
    inputs = [Item(image=png(n), text=text(n)) for n in range(40)]
    with Client(served.http) as client:
        wanted = client.encode(inputs, names=True)
    assert_same(ask("encode", inputs, names=True, client={"max_items": 7}), wanted)


def test_no_inputs_ask_nothing(call: Run) -> None:
    got = call("http://127.0.0.1:9", "encode", [], client={})
    assert got == Encoded(None, ())
    assert got.stream("any").indices_NK.shape == (0, 0)
    assert got.to_scipy("any", 5).shape == (0, 5)


def test_scipy_equals_dense(ask: Run) -> None:
    got = ask("encode_activations", {"imported": rows(50)})
    matrix = got.to_scipy("imported", 64)
    assert matrix.dtype == np.float32
    assert matrix.has_canonical_format
    np.testing.assert_array_equal(matrix.toarray(), got.stream("imported").dense(64))
    with pytest.raises(ClientError, match="does not fit into 3 columns"):
        got.to_scipy("imported", 3)
    with pytest.raises(UnknownStreamError, match="they have imported"):
        got.stream("tiny_a")


def test_scipy_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.sparse", None)
    with pytest.raises(ClientError, match="pip install scipy"):
        Encoded(None, ()).to_scipy("any", 5)


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_one_client_serves_many_threads(served: Served, wire: str) -> None:
    results: dict[int, Encoded] = {}
    with Client(served.http if wire == "http" else served.grpc, max_items=5) as client:

        def work(n: int) -> None:
            results[n] = client.encode([Text(text(n * 20 + i)) for i in range(20)])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for n in range(12):
            assert_same(results[n], client.encode([Text(text(n * 20 + i)) for i in range(20)]))


def test_async_inputs(served: Served) -> None:
    async def inputs() -> AsyncIterator[Text]:
        for n in range(100):
            yield Text(text(n))

    async def main() -> Encoded:
        async with AsyncClient(served.http) as client:
            return await client.encode(inputs())

    got = asyncio.run(main())
    assert [item.id for item in got.items] == [str(n) for n in range(100)]


def test_unknown_names_are_refused_before_anything_is_sent(call: Run) -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(TypeError, match="no argument `stream`"):
        call(nowhere, "encode", [Text("a")], client={}, stream=["a"])
    with pytest.raises(TypeError, match="no argument `retry`"):
        call(nowhere, "encode", [Text("a")], client={"retry": 1})
    with pytest.raises(ClientError, match=r"write \['tiny_a'\]"):
        call(nowhere, "encode", [Text("a")], client={}, streams="tiny_a")
    with pytest.raises(ClientError, match="seconds above 0"):
        call(nowhere, "encode", [Text("a")], client={}, timeout=0)


def test_the_services_own_refusals_are_its_exceptions(ask: Run) -> None:
    with pytest.raises(UnknownStreamError, match="'nope' is no stream"):
        ask("encode", [Text("a")], streams=["nope"])
    with pytest.raises(RequestError):
        ask("encode", [Text("a")], top_k=0)


def test_info_and_ready(call: Run, served: Served) -> None:
    info = call(served.http, "info", client={})
    assert (info.dictionary, info.num_concepts, info.k) == ("tiny@0.1", 64, 8)
    assert [s.name for s in info.streams] == ["tiny_a", "tiny_b", "tiny_text", "imported"]
    assert info.limits["items"] == 32
    assert call(served.http, "ready", client={}) is True
    assert call(served.grpc, "ready", client={}) is True
    assert call("http://127.0.0.1:9", "ready", client={"timeout": 2}) is False
    with pytest.raises(ClientError, match="HTTP port"):
        call(served.grpc, "info", client={})
