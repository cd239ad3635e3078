"""From photographs to answers: torch eager = ONNX Runtime = the service, on one artifact.

A small recipe of open_clip and timm encoders with random weights is extracted, fitted and
exported by the commands that users type.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import ExportError
from koine.sessions import CPU
from koine.types import Mode
from tests.service.conftest import serving
from training.__main__ import main
from training.checkpoint import load_model
from training.configs import FitConfig
from training.encoders import Encoder, EncoderConfig, load_encoder
from training.export.build import export
from training.export.samples import sample_images
from training.model import AlignedDictionary, dense
from training.recipes import RECIPES, Recipe

CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
STREAMS = {
    "clip_image": EncoderConfig(
        kind="open_clip", modality="image", name="ViT-B-32", weights="random:1", kwargs=CLIP
    ),
    "clip_text": EncoderConfig(
        kind="open_clip", modality="text", name="ViT-B-32", weights="random:1", kwargs=CLIP
    ),
    "vit": EncoderConfig(
        kind="timm", modality="image", name="test_vit", weights="random:2", pooling="cls",
        kwargs={"img_size": 32},
    ),
}  # fmt: skip
RECIPE = Recipe(
    name="ladder",
    source="captions-folder",
    streams=STREAMS,
    fit=FitConfig(num_concepts=48, k=6, batch_size=16, steps=30, validate_every=15),
)
TOLERANCE = 1e-3
"""Of an item's largest pre-code: backbones may differ by 1e-4 of the activations' norm (see
`training/export/parity.py`), and unit-norm, centred and scaled streams enlarge that."""
CAPTIONS = ("a red square", "two dogs on green grass", "snow", "an old car in the street, at night")
ITEMS = 12


class Ladder(NamedTuple):
    run: Path
    artifact: Artifact
    model: AlignedDictionary
    encoders: dict[str, Encoder]
    images: list[Image.Image]
    texts: list[str]


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    folder = tmp_path_factory.mktemp("ladder")
    write_photos(folder / "photos", 60)
    store, run, out = (str(folder / name) for name in ("store", "run", "artifact"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "ladder", lambda: RECIPE)
        for words in (
            ["extract", "--recipe", "ladder", "--data", str(folder / "photos"), "--out", store],
            ["fit", "--recipe", "ladder", "--store", store, "--out", run],
            ["export", run, "--out", out, "--name", "ladder"],
        ):
            assert main(words) == 0, words
    return Ladder(
        Path(run),
        Artifact.open(out),
        load_model(Path(run)),
        {name: load_encoder(config) for name, config in STREAMS.items()},
        sample_images(ITEMS, seed=99),
        [CAPTIONS[i % len(CAPTIONS)] + " again" * i for i in range(ITEMS)],
    )


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir()
    lines = []
    for i, image in enumerate(sample_images(count)):
        image.save(folder / f"{i}.png")
        split = ("train", "train", "train", "val", "test")[i % 5]
        captions = [f"{CAPTIONS[i % 4]} number {i}"]
        lines.append(json.dumps({"image": f"{i}.png", "captions": captions, "split": split}))
    (folder / "captions.jsonl").write_text("\n".join(lines))


class Rung(NamedTuple):
    """One way of answering: dense codes and fvu by stream."""

    codes: dict[str, np.ndarray]
    fvu: dict[str, np.ndarray]


def torch_rung(ladder: Ladder, mode: Mode) -> tuple[Rung, dict[str, np.ndarray]]:
    """What torch answers, and the scores that it selects by."""
    model, acts = ladder.model, {}
    for name, encoder in ladder.encoders.items():
        items = ladder.images if encoder.modality == "image" else ladder.texts
        acts[name] = torch.from_numpy(encoder.activations(encoder.prepare(items)))
    codes = model.encode(acts, mode)
    with torch.no_grad():
        pre = {n: model.of(n).pre_codes(model.of(n).normalise(a)).numpy() for n, a in acts.items()}
    scores = dict.fromkeys(pre, np.sum(list(pre.values()), axis=0)) if mode == "joint" else pre
    return Rung({n: dense(c, 48).numpy() for n, c in codes.items()}, {}), scores


def koine_rung(ladder: Ladder, mode: Mode) -> Rung:
    """What the artifact's graphs answer."""
    encoder = ConceptEncoder(ladder.artifact, providers=[CPU], threads=1)
    acts = {}
    for name, spec in encoder.streams.items():
        if spec.modality == "image":
            batch = np.stack([encoder.preprocess(name, image) for image in ladder.images])
        else:
            batch = encoder.tokenize(name, ladder.texts)
        acts[name] = encoder.activations(name, batch)
    codes = encoder.encode(acts, mode)
    return Rung(
        {name: c.dense(48) for name, c in codes.items()}, {n: c.fvu_N for n, c in codes.items()}
    )


def service_rung(ladder: Ladder, client: TestClient, mode: Mode) -> Rung:
    """What `/v1/encode` answers to the same pixels, as PNG."""
    inputs = [
        {"image": base64.b64encode(png(image)).decode(), "text": text}
        for image, text in zip(ladder.images, ladder.texts, strict=True)
    ]
    answer = client.post("/v1/encode", json={"inputs": inputs, "mode": mode})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    codes = {name: np.zeros((ITEMS, 48), np.float32) for name in STREAMS}
    fvu = {name: np.zeros(ITEMS, np.float32) for name in STREAMS}
    for row, result in enumerate(results):
        for name, found in result["codes"].items():
            codes[name][row, found["indices"]] = found["values"]
            fvu[name][row] = found["fvu"]
    return Rung(codes, fvu)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def check(one: Rung, other: Rung, scores: dict[str, np.ndarray]) -> None:
    """Supports equal except on ties, values within the tolerance."""
    for name, scores_NC in scores.items():
        a_NC, b_NC = one.codes[name], other.codes[name]
        bound_N1 = TOLERANCE * np.abs(scores_NC).max(1, keepdims=True)
        kth_N1 = np.sort(scores_NC, axis=1)[:, -6][:, None]
        tied_NC = (np.abs(scores_NC - kth_N1) <= bound_N1) | (np.maximum(a_NC, b_NC) <= bound_N1)
        differs_NC = (a_NC > 0) != (b_NC > 0)
        assert not (differs_NC & ~tied_NC).any(), name
        assert (np.where(differs_NC, 0, np.abs(a_NC - b_NC)) <= bound_N1).all(), name
        assert differs_NC.sum() <= 2, f"{name}: more ties than chance gives"
        assert (a_NC > 0).sum() > ITEMS, name


@pytest.mark.parametrize("mode", ["independent", "joint"])
def test_torch_equals_onnx_runtime_equals_the_service(ladder: Ladder, mode: Mode) -> None:
    torch_answer, scores = torch_rung(ladder, mode)
    koine_answer = koine_rung(ladder, mode)
    check(torch_answer, koine_answer, scores)
    with serving(ladder.artifact) as client:
        service_answer = service_rung(ladder, client, mode)
    check(koine_answer, service_answer, scores)
    check(torch_answer, service_answer, scores)
    for name in STREAMS:
        np.testing.assert_allclose(koine_answer.fvu[name], service_answer.fvu[name], rtol=TOLERANCE)


def test_an_encoder_that_did_not_make_the_store_is_refused(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(STREAMS["vit"], weights="random:3")
    recipe = dataclasses.replace(RECIPE, streams={**STREAMS, "vit": other})
    monkeypatch.setitem(RECIPES, "ladder", lambda: recipe)
    with pytest.raises(ExportError, match="encoder of stream `vit` is not the one that made"):
        export(ladder.run, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_recipe_is_not_known_is_refused(ladder: Ladder, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"names no known recipe \(got 'ladder'\)"):
        export(ladder.run, tmp_path / "a")


def test_the_artifact_tells_where_it_comes_from(ladder: Ladder) -> None:
    manifest = ladder.artifact.manifest
    assert manifest.training.recipe == "ladder"
    assert [s.spec.name for s in manifest.streams] == list(STREAMS)
    for stream in manifest.streams:
        assert stream.spec.encoder == ladder.encoders[stream.spec.name].identity
        assert stream.backbone == f"backbones/{stream.spec.name}.onnx"
    assert (ladder.artifact.path / "tokenizers" / "clip_text.json").is_file()
