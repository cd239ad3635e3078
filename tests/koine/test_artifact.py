"""Artifacts that are not as their manifest says are refused, with the reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from koine.artifact import Artifact, is_artifact, sha256_file
from koine.concepts import read_concepts
from koine.errors import ArtifactError
from koine.manifest import FORMAT_VERSION, Manifest
from koine.profile import read_profile


@pytest.fixture
def copy(tiny_artifact: Artifact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact.path, tmp_path / "copy"))


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refusal(root: Path, *, verify: bool = True) -> str:
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(root, verify=verify)
    return str(caught.value)


def test_an_artifact_opens(tiny_artifact: Artifact, copy: Path) -> None:
    opened = Artifact.open(copy)
    assert opened.manifest == tiny_artifact.manifest
    assert opened.digest == sha256_file(copy / "manifest.json")
    assert opened.file("heads/joint.onnx").is_file()
    assert opened.manifest.title == "tiny@0.1"
    assert [s.spec.name for s in opened.manifest.streams] == [
        "tiny_a",
        "tiny_b",
        "tiny_text",
        "imported",
    ]


def test_every_file_in_it_is_listed_and_no_other(tiny_artifact: Artifact) -> None:
    found = {p.relative_to(tiny_artifact.path).as_posix() for p in files_of(tiny_artifact.path)}
    assert found == {*tiny_artifact.manifest.files, "manifest.json"}
    assert {Path(name).parts[0] for name in found} == {
        "README.md", "backbones", "concepts.jsonl", "decoders.safetensors", "heads",
        "manifest.json", "profile", "tokenizers",
    }  # fmt: skip


def files_of(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_flipped_byte_in_any_file_is_found(copy: Path) -> None:
    kinds: set[str] = set()
    for path in files_of(copy):
        if path.name == "manifest.json":
            continue
        kinds.add(path.suffix)
        good = path.read_bytes()
        middle = len(good) // 2
        path.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        message = refusal(copy)
        expected = listed_hash(copy, path)
        assert path.name in message
        assert f"expected SHA-256 {expected}, got {sha256_file(path)}" in message
        path.write_bytes(good)
    assert kinds == {".md", ".onnx", ".jsonl", ".safetensors", ".bin", ".json"}
    Artifact.open(copy)


def listed_hash(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    return json.loads((root / "manifest.json").read_text())["files"][name]["sha256"]


def test_without_verify_hashes_are_not_read(copy: Path) -> None:
    path = copy / "concepts.jsonl"
    good = path.read_bytes()
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    Artifact.open(copy, verify=False)
    path.write_bytes(good[:-5])
    message = refusal(copy, verify=False)
    assert f"expected {len(good)} bytes, got {len(good) - 5}" in message


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "heads/tiny_b.onnx").unlink()
    assert "lacks heads/tiny_b.onnx" in refusal(copy)


def test_a_file_that_is_not_listed_is_named(copy: Path) -> None:
    (copy / "heads/extra.onnx").write_text("x")
    message = refusal(copy)
    assert "does not list: heads/extra.onnx; remove" in message


def test_a_link_in_place_of_a_file_or_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    shutil.move(copy / "concepts.jsonl", outside)
    (copy / "concepts.jsonl").symlink_to(outside)
    assert "symbolic link" in refusal(copy)
    (copy / "concepts.jsonl").unlink()
    shutil.move(outside, copy / "concepts.jsonl")
    shutil.move(copy / "profile", tmp_path / "profile")
    (copy / "profile").symlink_to(tmp_path / "profile")
    assert "symbolic link" in refusal(copy)


def test_a_link_in_place_of_the_manifest_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "manifest.json", tmp_path / "manifest.json")
    (copy / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert "symbolic link" in refusal(copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "heads/../../x", "a//b", "./a", ""])
def test_a_path_out_of_the_artifact_is_refused(copy: Path, name: str) -> None:
    entry = {"sha256": "0" * 64, "bytes": 1}
    edit(copy, lambda data: data["files"].update({name: entry}))
    assert f"file name {name!r} is not a plain path inside" in refusal(copy)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", True, None])
def test_another_format_version_is_refused(copy: Path, version: Any) -> None:
    edit(copy, lambda data: data.update(format_version=version, novelty=1))
    message = refusal(copy)
    assert f"format_version {version!r}; this Koine reads {FORMAT_VERSION}" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(novelty=1), "unknown key `novelty`"),
        (lambda d: d["streams"][0].update(novelty=1), "unknown key `streams.0.novelty`"),
        (lambda d: d["streams"][0]["spec"].update(x=1), "unknown key `streams.0.spec.x`"),
        (lambda d: d["selection"].update(x=1), "unknown key `selection.x`"),
        (lambda d: d["selection"].update(joint="vote"), "`selection.joint`"),
        (lambda d: d.pop("k"), "`k`: Field required"),
        (lambda d: d.update(k=65), "`k` 65 is larger than `num_concepts` 64"),
        (lambda d: d.update(name="a b"), "'a b': use letters"),
        (lambda d: d["files"].pop("heads/joint.onnx"), "heads/joint.onnx is needed but not"),
        (lambda d: d["files"].pop("tokenizers/tiny_text.json"), "tokenizers/tiny_text.json is"),
        (lambda d: d.update(streams=[d["streams"][0]] * 2), "stream names repeat: tiny_a, tiny_a"),
        (lambda d: d["files"]["README.md"].update(sha256="0"), "`files.README.md.sha256`"),
    ],
)
def test_a_manifest_with_a_fault_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    edit(copy, change)
    message = refusal(copy)
    assert "manifest.json is not as expected" in message
    assert reason in message


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    assert "is not JSON" in refusal(copy)
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not JSON" in refusal(copy)
    path.write_text("[]")
    assert "no `format_version`" in refusal(copy)
    path.write_text(text.replace('"name"', '"k": 1, "k": 2, "name"', 1))
    assert "repeated key 'k'" in refusal(copy)


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert "is a file, not a directory" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "holds no manifest.json, so it is no artifact" in refusal(tmp_path / "empty")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file; run as another user")
def test_a_manifest_that_may_not_be_read_is_refused(copy: Path) -> None:
    (copy / "manifest.json").chmod(0)
    assert "cannot be read" in refusal(copy)


def test_is_artifact_knows_them_in_any_state(copy: Path, tmp_path: Path) -> None:
    assert is_artifact(copy)
    edit(copy, lambda data: data.update(format_version=99))
    assert is_artifact(copy)
    (copy / "manifest.json").write_text("{}")
    assert not is_artifact(copy)
    assert not is_artifact(tmp_path)


def test_the_manifest_reads_back_as_it_was_written(tiny_artifact: Artifact) -> None:
    manifest = tiny_artifact.manifest
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_concepts_are_numbered_and_carry_their_rates(tiny_artifact: Artifact) -> None:
    concepts = read_concepts(tiny_artifact.file("concepts.jsonl"))
    profile = read_profile(tiny_artifact.file("profile/reference.safetensors")).streams
    assert [concept.id for concept in concepts] == list(range(64))
    assert {concept.status for concept in concepts} == {"unnamed"}
    for name, stream in profile.items():
        rates = [concept.rate[name] for concept in concepts]
        assert rates == pytest.approx(stream.rates_C.tolist(), abs=1e-8)
    assert max(rates) > 0


def test_a_concepts_file_out_of_order_is_refused(tiny_artifact: Artifact, tmp_path: Path) -> None:
    lines = tiny_artifact.file("concepts.jsonl").read_text().splitlines()
    path = tmp_path / "concepts.jsonl"
    path.write_text("\n".join([lines[0], lines[2]]))
    with pytest.raises(ArtifactError, match="line 2 holds concept 2"):
        read_concepts(path)
    path.write_text(lines[0] + '\n{"id": 1, "novelty": 2}\n')
    with pytest.raises(ArtifactError, match="line 2 is no concept: Extra inputs"):
        read_concepts(path)


def test_the_card_names_what_the_artifact_holds(tiny_artifact: Artifact) -> None:
    card = tiny_artifact.file("README.md").read_text()
    assert "\n# tiny@0.1\n" in card
    for text in ("| `tiny_text` | text | 20 |", "imported activations", "summed_topk", "0.25"):
        assert text in card
