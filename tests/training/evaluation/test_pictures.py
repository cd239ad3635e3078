"""Pictures of the page: found, small, bounded, and refused where they are something else."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from koine.errors import DataError, RequestError
from tests.training.evaluation.stores import write_store
from training.activations import ActivationStore
from training.evaluation import pictures as module
from training.evaluation.pictures import SIDE, pictures, source_of
from training.sources import open_source

NOBODY: dict[str, Any] = {"names": None, "disagreement": {}}


def image_bytes(width: int = 300, height: int = 200, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, kind)
    return buffer.getvalue()


def showing(*thumbnails: str | None) -> dict[str, Any]:
    """A report that shows concepts with these thumbnails."""
    exemplars = [{"thumbnail": name} for name in thumbnails]
    return {"names": {"best": [{"exemplars": exemplars}], "failed": []}, "disagreement": {}}


def apart(*items: str) -> dict[str, Any]:
    """A report that shows these items."""
    pair = {"apart": [{"item": item} for item in items], "only": {}}
    return {"names": None, "disagreement": {"a|b": pair}}


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(f"{name}.jpg", data)
    return path


def opened(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_exemplars_come_small_and_only_those_that_are_shown(tmp_path: Path) -> None:
    path = zipped(tmp_path / "exemplars.zip", a=image_bytes(), b=image_bytes())
    found = pictures(showing("a.jpg", None, "gone.jpg"), path, None)
    assert set(found.exemplars) == {"a.jpg"}
    assert opened(found.exemplars["a.jpg"]).size == (SIDE, SIDE)
    assert found.items == {}


def test_without_names_or_data_there_are_no_pictures(tmp_path: Path) -> None:
    assert pictures(NOBODY, tmp_path / "exemplars.zip", None) == ({}, {}, 0)
    assert pictures(showing("a.jpg"), tmp_path / "exemplars.zip", None) == ({}, {}, 0)


def test_what_cannot_be_read_or_is_too_large_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRY", 100_000)
    files = {"good": image_bytes(), "bad": b"no image", "huge": bytes(100_001)}
    path = zipped(tmp_path / "exemplars.zip", **files)
    found = pictures(showing("good.jpg", "bad.jpg", "huge.jpg"), path, None)
    assert set(found.exemplars) == {"good.jpg"}
    assert found.left_out == 2


def test_a_page_has_room_for_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "exemplars.zip", a=image_bytes(), b=image_bytes(), c=image_bytes())
    one = len(pictures(showing("a.jpg"), path, None).exemplars["a.jpg"])
    monkeypatch.setattr(module, "MAX_BYTES", 2 * one)
    found = pictures(showing("a.jpg", "b.jpg", "c.jpg"), path, None)
    assert (len(found.exemplars), found.left_out) == (2, 1)


def test_a_damaged_zip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "exemplars.zip"
    path.write_bytes(b"PK but no zip")
    with pytest.raises(DataError, match="is damaged .*: name the run again"):
        pictures(showing("a.jpg"), path, None)


def test_items_come_from_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = []
    for name in ("1", "2", "3"):
        (tmp_path / "images" / f"{name}.png").write_bytes(image_bytes())
        lines.append(json.dumps({"image": f"images/{name}.png"}))
    (tmp_path / "images" / "3.png").unlink()
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    source = open_source("captions-folder", tmp_path)
    found = pictures(apart("images/2.png", "images/3.png"), tmp_path / "none.zip", source)
    assert set(found.items) == {"images/2.png"}
    assert found.left_out == 1


def test_a_store_of_activations_has_no_images(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", items=20)
    with pytest.raises(RequestError, match="was made of activations .synthetic.: it has no images"):
        source_of(store, tmp_path)


def test_other_data_than_the_stores_is_refused(
    store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.png").write_bytes(image_bytes())
    (tmp_path / "captions.jsonl").write_text(json.dumps({"image": "1.png"}))
    kind = "captions-folder"
    plan = store.manifest.plan
    other = plan.model_copy(update={"source": plan.source.model_copy(update={"kind": kind})})
    manifest = store.manifest.model_copy(update={"plan": other})
    monkeypatch.setattr(store, "manifest", manifest)
    with pytest.raises(DataError, match="its listing differs. Give the folder that `extract` read"):
        source_of(store, tmp_path)
    real = other.source.model_copy(
        update={"fingerprint": open_source(kind, tmp_path).scan().fingerprint}
    )
    manifest = manifest.model_copy(update={"plan": other.model_copy(update={"source": real})})
    monkeypatch.setattr(store, "manifest", manifest)
    assert source_of(store, tmp_path).kind == kind
