"""Where weights are looked for, what is said when they are nowhere, and the hub's own protocol."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from koine.errors import EncoderError
from koine.streams import ImagePreprocess
from training.encoders import EncoderConfig, load_encoder
from training.encoders.weights import find_files, revision_of_tensors

CLOSED = "http://127.0.0.1:9"
"""Nothing listens on the discard port."""


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at(CLOSED, monkeypatch)


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What setting HF_ENDPOINT before the start would do."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


class HubFiles(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download uses, over one dictionary of files."""

    files: dict[str, bytes] = {}

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        return

    def _answer(self, *, body: bool) -> None:
        data = self.files.get(self.path)
        self.send_response(200 if data is not None or self.path == "/" else 404)
        if data is None and self.path != "/":
            self.send_header("X-Error-Code", "EntryNotFound")
        data = data or b""
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A hub on this machine; its files by URL path."""
    monkeypatch.setattr(HubFiles, "files", {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubFiles)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield HubFiles.files
    server.shutdown()
    server.server_close()
    thread.join()


def test_local_places_come_before_the_hub(tmp_path: Path) -> None:
    for place in ("org/model", "model"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(place.encode())
    found = find_files("m", "org/model", tmp_path).weights("model.safetensors")
    assert found.read_bytes() == b"org/model"
    found.unlink()
    found.parent.rmdir()
    found = find_files("m", "org/model", tmp_path).weights("model.safetensors")
    assert found.read_bytes() == b"model"
    absolute = find_files("m", str(found), None).weights("model.safetensors")
    assert absolute == found


def test_offline_and_nowhere_is_one_clear_sentence(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(EncoderError) as caught:
        load_encoder(
            EncoderConfig(kind="timm", modality="image", name="test_vit", weights="timm/test_vit"),
            tmp_path,
        )
    message = str(caught.value)
    assert time.monotonic() - start < 10
    assert "the weights of encoder `test_vit` are missing" in message
    assert f"nothing at {tmp_path}/timm/test_vit or {tmp_path}/test_vit" in message
    assert f"{CLOSED} cannot be reached" in message
    assert (
        f"put its files (safetensors and the JSON beside them) into {tmp_path}/test_vit" in message
    )
    assert "\n" not in message


def test_offline_by_setting_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="HF_HUB_OFFLINE is set"):
        find_files("m", "org/model", tmp_path).weights("model.safetensors")


def test_a_path_that_is_no_hub_id_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=rf"nothing at {tmp_path}/gone, and 'gone' is no hub id"):
        find_files("m", "gone", tmp_path)
    with pytest.raises(EncoderError, match="nothing at /no/such/file.*put the file or directory"):
        find_files("m", "/no/such/file", tmp_path)


def test_a_folder_without_safetensors_says_which_names(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EncoderError, match=r"holds none of a\.safetensors, b\.safetensors; put"):
        find_files("m", "model", tmp_path).weights("a.safetensors", "b.safetensors")


def test_the_hub_is_read_once_then_its_cache(
    tmp_path: Path, hub: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub["/org/model/resolve/main/second.safetensors"] = b"tensors"
    hub["/org/model/resolve/main/config.json"] = b"{}"
    files = find_files("m", "org/model", tmp_path)
    path = files.weights("first.safetensors", "second.safetensors")
    assert path.read_bytes() == b"tensors"
    described = files.beside("config.json")
    assert described is not None
    assert described.parent == path.parent
    assert files.beside("other.json") is None
    hub.clear()
    point_at(CLOSED, monkeypatch)
    assert files.weights("first.safetensors", "second.safetensors") == path
    assert files.beside("other.json") is None


def test_a_repository_of_pickles_is_refused(tmp_path: Path, hub: dict[str, bytes]) -> None:
    hub["/org/model/resolve/main/pytorch_model.bin"] = b"pickle"
    with pytest.raises(EncoderError, match="on the hub holds none of model.safetensors .pickled"):
        find_files("m", "org/model", tmp_path).weights("model.safetensors")


def test_tensors_have_one_revision_each() -> None:
    base = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    same = {"b": torch.ones(2, 2), "a": torch.arange(4.0)}
    others = [
        base | {"a": torch.arange(4.0) + 1e-6},
        base | {"b": torch.ones(4)},
        base | {"a": torch.arange(4, dtype=torch.int32)},
        {"a": base["a"], "c": base["b"]},
    ]
    revisions = [revision_of_tensors(tensors) for tensors in (base, *others)]
    assert revision_of_tensors(same) == revisions[0]
    assert len(set(revisions)) == 5
    assert revisions[0].startswith("sha256:")


def test_configs_that_cannot_be_meant_are_refused() -> None:
    def refused(message: str, **fields: object) -> None:
        whole = {"kind": "timm", "modality": "image", "name": "x", "weights": "x", **fields}
        with pytest.raises(ValueError, match=message):
            EncoderConfig(**whole)  # type: ignore[arg-type]

    spec = ImagePreprocess(resize_size=8, crop_size=8, mean=(0, 0, 0), std=(1, 1, 1))
    refused("no encoder of kind timm reads text", modality="text")
    refused("timm image encoders pool by cls, avg, map, got 'max'", pooling="max")
    refused("`random:SEED`, got 'random:x'", weights="random:x")
    refused("random weights need", kind="transformers", modality="text", weights="random:1")
    refused("needs `preprocess`", kind="onnx")
    refused("`preprocess` is for images", kind="open_clip", modality="text", preprocess=spec)
