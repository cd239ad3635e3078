"""Extract with real encoders: every row aligned, everything left out listed, nothing guessed."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koine.errors import SourceError, StoreError
from koine.images import decode_image
from koine.streams import TextPreprocess
from koine.texts import Tokenizer
from tests.training.activations.tiny_recipe import encoders
from tests.training.sources.made import WRITERS, made, picture, write_captions_folder
from training.activations import ActivationStore
from training.activations.builder import Made
from training.activations.extraction import extract, make_plan
from training.activations.manifest import DType, ShardRecord, load
from training.encoders import Encoder
from training.sources import open_source

BATCH = 4


@pytest.fixture(scope="module")
def three() -> dict[str, Encoder]:
    return encoders()


def run(
    data: Path,
    out: Path,
    streams: dict[str, Encoder],
    kind: str = "captions-folder",
    dtype: DType = "float32",
    limit: int | None = None,
) -> Made:
    source = open_source(kind, data)
    scan = source.scan()
    plan = make_plan(
        "tiny", source, scan, streams,
        dtype=dtype, shard_size=5, batch_size=BATCH, limit=limit, device="cpu",
    )  # fmt: skip
    return extract(plan, source, scan, streams, out, threads=2)


def write_lines(folder: Path, *lines: dict[str, object]) -> None:
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(data)


def listed(out: Path) -> list[tuple[str, str]]:
    records = [load(ShardRecord, file) for file in sorted(out.glob("shards/*/shard.json"))]
    left_out = [skip for r in records for skip in (*r.skipped, *r.dropped_captions)]
    return [(skip.id, skip.reason) for skip in left_out]


@pytest.mark.parametrize("kind", list(WRITERS))
def test_vectors_are_what_the_encoders_give(
    kind: str, tmp_path: Path, three: dict[str, Encoder]
) -> None:
    WRITERS[kind](tmp_path / "data", made())
    assert not run(tmp_path / "data", tmp_path / "s", three, kind).already
    store = ActivationStore.open(tmp_path / "s")
    assert [stream.name for stream in store.streams] == list(three)
    assert [Path(store.row(i).id).stem for i in range(11)] == [m.name for m in made()]
    first = store.gather(np.arange(11))
    last = store.gather(np.arange(11), np.full(11, 0.999))
    for i, item in enumerate(made()):
        assert store.row(i).captions == item.captions
        assert store.row(i).labels == item.labels
        image = decode_image(picture(i))
        for name in ("vit", "clip_image"):
            expected = three[name].activations(three[name].prepare([image]))[0]
            # batched and single sums round differently: a few float32 ulps of the largest value
            np.testing.assert_allclose(first.acts[name][i], expected, atol=2e-5, rtol=1e-4)
        for batch, position in ((first, 0), (last, -1)):
            if item.captions:
                text = three["clip_text"]
                expected = text.activations(text.prepare([item.captions[position]]))[0]
                np.testing.assert_allclose(batch.acts["clip_text"][i], expected, atol=2e-5)
    assert store.counts("clip_text").tolist() == [len(item.captions) for item in made()]
    assert store.counts("vit").tolist() == [1] * 11


def test_specs_and_tokenizer_travel(tmp_path: Path, three: dict[str, Encoder]) -> None:
    write_captions_folder(tmp_path / "data", made())
    run(tmp_path / "data", tmp_path / "s", three)
    for stream in ActivationStore.open(tmp_path / "s").streams:
        assert stream.encoder == three[stream.name].identity
        if isinstance(stream.preprocess, TextPreprocess):
            assert stream.preprocess.tokenizer == "tokenizers/clip_text.json"
            tokens = Tokenizer(stream.preprocess, tmp_path / "s")(["a red boat"])
            expected = three["clip_text"].prepare(["a red boat"])
            np.testing.assert_array_equal(tokens.ids_NT, expected[0])
        else:
            assert stream.preprocess == three[stream.name].preprocess
    tokenizer = tmp_path / "s/tokenizers/clip_text.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    with pytest.raises(StoreError, match=r"tokenizers/clip_text\.json is damaged"):
        ActivationStore.open(tmp_path / "s", verify=False)


def bad_images() -> dict[str, bytes]:
    small = io.BytesIO()
    Image.new("1", (8, 8)).save(small, "PNG")
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + small.getvalue()[24:29]
    checksum = struct.pack(">I", zlib.crc32(header))
    return {
        "text.jpg": b"this is a text, not an image\n" * 20,
        "empty.jpg": b"",
        "cut.jpg": picture(3, 400)[:1500],
        "huge.png": small.getvalue()[:12] + header + checksum + small.getvalue()[33:],
    }


def test_unreadable_images_lose_their_row_only(tmp_path: Path, three: dict[str, Encoder]) -> None:
    write_captions_folder(tmp_path / "good", made(8))
    run(tmp_path / "good", tmp_path / "expected", three)
    write_captions_folder(tmp_path / "data", made(8))
    lines = (tmp_path / "data/captions.jsonl").read_text().splitlines()
    for position, (name, data) in enumerate(bad_images().items()):
        (tmp_path / "data/images" / name).write_bytes(data)
        bad = {"image": f"images/{name}", "captions": ["lost with its image"], "labels": ["lost"]}
        lines.insert(2 * position, json.dumps(bad))
    lines.append(json.dumps({"image": "images/gone.jpg"}))
    (tmp_path / "data/captions.jsonl").write_text("\n".join(lines))

    manifest = run(tmp_path / "data", tmp_path / "s", three).manifest
    assert (manifest.num_rows, manifest.skipped) == (8, 5)
    reasons = dict(listed(tmp_path / "s"))
    assert set(reasons) == {f"images/{name}" for name in [*bad_images(), "gone.jpg"]}
    assert "no image of a known format" in reasons["images/text.jpg"]
    assert "0 bytes" in reasons["images/empty.jpg"]
    assert "truncated" in reasons["images/cut.jpg"]
    assert "at most 64,000,000 are read" in reasons["images/huge.png"]
    assert "gone.jpg is missing" in reasons["images/gone.jpg"]

    store, expected = (ActivationStore.open(tmp_path / name) for name in ("s", "expected"))
    assert store.label_names == expected.label_names
    rows = np.arange(8)
    assert [store.row(i) for i in range(8)] == [expected.row(i) for i in range(8)]
    for name, acts_ND in expected.gather(rows).acts.items():
        # other neighbours in the batch: a few float32 ulps
        np.testing.assert_allclose(store.gather(rows).acts[name], acts_ND, atol=2e-5, rtol=1e-4)


def test_odd_but_readable_images_stay(tmp_path: Path, three: dict[str, Encoder]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8))
    grey = Image.fromarray(rng.integers(0, 65536, (50, 60), np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    colours.convert("CMYK").save(data / "cmyk.jpg")
    grey.save(data / "deep.png")
    colours.resize((1, 1)).save(data / "dot.png")
    colours.save(data / "turned.jpg", exif=exif)
    colours.save(data / "moving.gif", save_all=True, append_images=[colours.rotate(90)])
    names = ["cmyk.jpg", "deep.png", "dot.png", "turned.jpg", "moving.gif"]
    write_lines(tmp_path / "data", *({"image": name, "captions": [name]} for name in names))
    manifest = run(tmp_path / "data", tmp_path / "s", three).manifest
    assert (manifest.num_rows, manifest.skipped) == (5, 0)


def test_blank_captions_are_dropped_and_listed(tmp_path: Path, three: dict[str, Encoder]) -> None:
    put(tmp_path / "data/a.jpg", picture(0))
    long = "word " * 10_000
    write_lines(tmp_path / "data", {"image": "a.jpg", "captions": ["", "a dog", " \n", long]})
    manifest = run(tmp_path / "data", tmp_path / "s", three).manifest
    assert (manifest.skipped, manifest.dropped_captions) == (0, 2)
    store = ActivationStore.open(tmp_path / "s")
    assert store.row(0).captions == ("a dog", long)
    assert store.counts("clip_text").tolist() == [2]
    assert listed(tmp_path / "s") == [
        ("a.jpg", "caption 1: it is blank"),
        ("a.jpg", "caption 3: it is blank"),
    ]


def test_vision_only(tmp_path: Path, three: dict[str, Encoder]) -> None:
    write_captions_folder(tmp_path / "data", made())
    run(tmp_path / "data", tmp_path / "s", {"vit": three["vit"]})
    store = ActivationStore.open(tmp_path / "s")
    assert list(store.gather(np.arange(11)).acts) == ["vit"]
    assert store.row(3).captions == made()[3].captions


def test_text_only_needs_no_image_that_can_be_read(
    tmp_path: Path, three: dict[str, Encoder]
) -> None:
    write_captions_folder(tmp_path / "data", made())
    for image in (tmp_path / "data/images").iterdir():
        image.write_bytes(b"never read")
    run(tmp_path / "data", tmp_path / "s", {"clip_text": three["clip_text"]})
    store = ActivationStore.open(tmp_path / "s")
    with_captions = [item for item in made() if item.captions]
    assert [store.row(i).captions for i in range(len(store))] == [m.captions for m in with_captions]
    assert {reason for _, reason in listed(tmp_path / "s")} == {
        "it has no caption, and all streams read text"
    }


def test_text_streams_without_any_caption(tmp_path: Path, three: dict[str, Encoder]) -> None:
    put(tmp_path / "data/a.jpg", picture(0))
    write_lines(tmp_path / "data", {"image": "a.jpg"})
    with pytest.raises(SourceError, match="text streams, but none of the 1 items has a caption"):
        run(tmp_path / "data", tmp_path / "s", three)
    assert not (tmp_path / "s").exists()


def test_all_images_unreadable(tmp_path: Path, three: dict[str, Encoder]) -> None:
    put(tmp_path / "data/a.jpg", b"text")
    write_lines(tmp_path / "data", {"image": "a.jpg", "captions": ["a dog"]})
    with pytest.raises(StoreError, match=r"No row is left .*all 1 items were skipped.*a\.jpg"):
        run(tmp_path / "data", tmp_path / "s", three)


def test_limit_and_half_precision(tmp_path: Path, three: dict[str, Encoder]) -> None:
    write_captions_folder(tmp_path / "data", made())
    full = ActivationStore.open(
        tmp_path / "s"
        if run(tmp_path / "data", tmp_path / "s", three).manifest
        else tmp_path
    )  # fmt: skip
    run(tmp_path / "data", tmp_path / "half", three, dtype="float16", limit=7)
    half = ActivationStore.open(tmp_path / "half")
    assert len(half) == 7
    acts_ND = full.gather(np.arange(7)).acts["vit"].astype(np.float16).astype(np.float32)
    # the 7th row shares its batch with others: half a float16 ulp either way
    np.testing.assert_allclose(half.gather(np.arange(7)).acts["vit"], acts_ND, rtol=1e-3, atol=1e-6)


def test_a_finished_store_is_left_as_it_is(tmp_path: Path, three: dict[str, Encoder]) -> None:
    write_captions_folder(tmp_path / "data", made())
    run(tmp_path / "data", tmp_path / "s", three)
    before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in (tmp_path / "s").rglob("*.*")
              if f.is_file()}  # fmt: skip
    made_again = run(tmp_path / "data", tmp_path / "s", three)
    assert made_again.already
    assert made_again.manifest.num_rows == 11
    assert before == {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in before}


def test_changed_captions_and_other_encoders_are_refused(
    tmp_path: Path, three: dict[str, Encoder]
) -> None:
    write_captions_folder(tmp_path / "data", made())
    run(tmp_path / "data", tmp_path / "s", three)
    swapped = {**three, "vit": three["clip_image"]}
    with pytest.raises(StoreError, match=r"streams\.0\.d_in: 64 then, 24 now"):
        run(tmp_path / "data", tmp_path / "s", swapped)
    listing = tmp_path / "data/captions.jsonl"
    listing.write_text(listing.read_text().replace("dog", "fox"))
    with pytest.raises(StoreError, match=r"source\.fingerprint: .* then, .* now"):
        run(tmp_path / "data", tmp_path / "s", three)
