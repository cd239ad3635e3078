"""Artifacts to and from a hub: pinned, resumed, checked, refused, offline."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from koine import hub as hub_module
from koine.__main__ import main
from koine.artifact import Artifact
from koine.errors import ArtifactError
from koine.hub import Place, fetch, parse_place
from service.dictionaries import check_artifacts
from service.settings import Settings
from tests.hub import CLOSED, LocalHub, local_hub, point_at

PLACE = "hf://lab/tiny"
# the hub client's own upload of LFS parts
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the hub's own storage: not here
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with local_hub(monkeypatch) as served:
        yield served


def files_of(artifact: Artifact) -> dict[str, bytes]:
    names = [*artifact.manifest.files, "manifest.json"]
    return {name: (artifact.path / name).read_bytes() for name in names}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hf://lab/tiny", Place("lab/tiny", None)),
        ("hf://lab/tiny@v1.0", Place("lab/tiny", "v1.0")),
        ("hf://lab/tiny@feature/x", Place("lab/tiny", "feature/x")),
    ],
)
def test_places_are_read_and_written_alike(text: str, place: Place) -> None:
    assert parse_place(text) == place
    assert str(place) == text


@pytest.mark.parametrize(
    "text", ["hf://", "hf://tiny", "hf://a/b/c", "hf://a/..", "hf://a/b@", "hf://a/b@../c", "a/b"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="no place on the hub; write hf://owner/name"):
        parse_place(text)


def test_push_then_open_gives_the_same_bytes_at_a_pinned_commit(
    hub: LocalHub, tiny_artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(tiny_artifact.path), PLACE]) == 0
    pinned = capsys.readouterr().out.split(": ")[0]
    assert re.fullmatch(r"hf://lab/tiny@[0-9a-f]{40}", pinned)
    assert hub.private == {"lab/tiny": True}
    for place in (PLACE, pinned):
        artifact = Artifact.open(place)
        assert artifact.digest == tiny_artifact.digest
        assert artifact.source == pinned
        assert files_of(artifact) == files_of(tiny_artifact)
    assert main(["inspect", PLACE]) == 0
    assert f"from         {pinned}" in capsys.readouterr().out
    assert main(["verify", pinned]) == 0


def test_a_commit_that_is_here_is_not_asked_for_again(
    hub: LocalHub, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.commit("lab/tiny", files_of(tiny_artifact))
    assert fetch(PLACE).source == f"{PLACE}@{commit}"
    asked = len(hub.seen)
    assert fetch(f"{PLACE}@{commit}").path == fetch(PLACE).path
    assert len(hub.seen) == asked + 1  # what `main` is now
    point_at(CLOSED, monkeypatch)
    assert fetch(f"{PLACE}@{commit}").source == f"{PLACE}@{commit}"


def test_a_branch_follows_what_is_pushed_and_a_commit_does_not(
    hub: LocalHub, tiny_artifact: Artifact
) -> None:
    first = hub.commit("lab/tiny", files_of(tiny_artifact))
    assert Artifact.open(PLACE).source == f"{PLACE}@{first}"
    second = hub.commit("lab/tiny", {"notes.txt": b"not the artifact's, never fetched"})
    assert Artifact.open(PLACE).source == f"{PLACE}@{second}"
    assert Artifact.open(f"{PLACE}@{first}").source == f"{PLACE}@{first}"


def test_push_to_a_branch_leaves_main(hub: LocalHub, tiny_artifact: Artifact) -> None:
    assert main(["push", str(tiny_artifact.path), f"{PLACE}@v2", "--public"]) == 0
    assert hub.private == {"lab/tiny": False}
    assert "manifest.json" not in hub.commits["lab/tiny"][hub.refs["lab/tiny", "main"]]
    assert Artifact.open(f"{PLACE}@v2").digest == tiny_artifact.digest
    assert main(["push", str(tiny_artifact.path), f"{PLACE}@v2"]) == 0  # twice is once
    assert main(["push", str(tiny_artifact.path), f"{PLACE}@{'0' * 40}"]) == 2


def test_a_damaged_artifact_is_not_pushed(
    hub: LocalHub, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_artifact.path, tmp_path / "copy"))
    (copy / "README.md").write_text("changed")
    assert main(["push", str(copy), PLACE]) == 2
    assert hub.commits == {}


def test_a_download_that_is_cut_goes_on(
    hub: LocalHub, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.commit("lab/tiny", files_of(tiny_artifact))
    hub.cut_after = 20_000  # of weights.bin
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # its client waits between tries
    with pytest.raises(ArtifactError, match=r"hf://lab/tiny was not fetched: .*it goes on"):
        fetch(PLACE)
    home = Path(constants.HF_HOME) / "koine" / "lab--tiny"
    assert not (home / commit).exists()
    before = len(hub.seen)
    hub.cut_after = None
    assert Artifact.open(PLACE).digest == tiny_artifact.digest
    again = hub.seen[before:]
    assert not any(method == "GET" and path.endswith("manifest.json") for method, path in again)
    assert [path.name for path in home.iterdir() if path.name.endswith(".part")] == []


def test_another_hash_than_the_manifests_is_refused(hub: LocalHub, tiny_artifact: Artifact) -> None:
    files = files_of(tiny_artifact)
    weights = files["heads/weights.bin"]
    hub.commit("lab/tiny", {**files, "heads/weights.bin": weights[:-1] + b"!"})
    with pytest.raises(ArtifactError, match=r"holds a heads/weights.bin that is not its manifest"):
        Artifact.open(PLACE)
    hub.commit("lab/tiny", files)
    assert Artifact.open(PLACE).digest == tiny_artifact.digest


def test_a_repository_that_is_no_artifact_is_refused(
    hub: LocalHub, tiny_artifact: Artifact
) -> None:
    files = files_of(tiny_artifact)
    hub.commit("lab/other", {"README.md": b"a model"})
    with pytest.raises(ArtifactError, match="lacks a file that an artifact has"):
        Artifact.open("hf://lab/other")
    outside = json.loads(files["manifest.json"])
    outside["files"]["../../outside.txt"] = {"sha256": "0" * 64, "bytes": 1}
    hub.commit("lab/evil", {**files, "manifest.json": json.dumps(outside).encode()})
    with pytest.raises(ArtifactError, match="is not a plain path inside the artifact"):
        Artifact.open("hf://lab/evil")
    hub.commit("lab/odd", {"manifest.json": b"[1, 2]"})
    with pytest.raises(ArtifactError, match="no `format_version`"):
        Artifact.open("hf://lab/odd")
    with pytest.raises(ArtifactError, match="there is no lab/gone on the hub, or it is private"):
        Artifact.open("hf://lab/gone")
    with pytest.raises(ArtifactError, match="lab/odd has no revision 'v9'"):
        Artifact.open("hf://lab/odd@v9")


def test_offline_is_one_sentence_or_what_was_last_fetched(
    hub: LocalHub,
    tiny_artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    commit = hub.commit("lab/tiny", files_of(tiny_artifact))
    fetch(PLACE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with caplog.at_level(logging.WARNING, logger="koine.hub"):
        assert Artifact.open(PLACE).source == f"{PLACE}@{commit}"
    assert "HF_HUB_OFFLINE is set; the commit that was last fetched is used" in caplog.text
    with pytest.raises(ArtifactError, match="hf://lab/new is not on this machine and cannot be"):
        Artifact.open("hf://lab/new")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at(CLOSED, monkeypatch)
    with pytest.raises(ArtifactError, match=f"fetched: {CLOSED} cannot be reached"):
        Artifact.open("hf://lab/new")
    with pytest.raises(ArtifactError, match="cannot be written to"):
        hub_module.push(tiny_artifact.path, tiny_artifact.manifest.files, PLACE)


def test_a_folder_beside_goes_first(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(CLOSED, monkeypatch)
    shutil.copytree(tiny_artifact.path, Path("lab/tiny@v1"))
    artifact = Artifact.open(f"{PLACE}@v1")
    assert artifact.source == str(Path("lab/tiny@v1").absolute())
    with pytest.raises(ArtifactError, match="put the artifact's folder at lab/tiny$"):
        Artifact.open(PLACE)  # a folder of one revision stands for no other


def test_the_token_is_the_environments_and_stands_nowhere(
    hub: LocalHub,
    tiny_artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    hub.token = "hf_" + "s" * 34
    hub.commit("lab/tiny", files_of(tiny_artifact))
    stored = tmp_path / "token"  # of some login on this machine
    stored.write_text(hub.token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(stored))
    with pytest.raises(ArtifactError, match="set HF_TOKEN to a token that may do this"):
        Artifact.open(PLACE)
    with caplog.at_level(logging.DEBUG):
        monkeypatch.setenv("HF_TOKEN", "hf_" + "w" * 34)
        with pytest.raises(ArtifactError) as refused:
            Artifact.open(PLACE)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        assert Artifact.open(PLACE).digest == tiny_artifact.digest
    assert "w" * 34 not in str(refused.value)
    assert "s" * 34 not in caplog.text
    assert "w" * 34 not in caplog.text


def test_two_at_once_fetch_once(hub: LocalHub, tiny_artifact: Artifact) -> None:
    hub.commit("lab/tiny", files_of(tiny_artifact))
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(Artifact.open(PLACE).digest)) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tiny_artifact.digest] * 2
    gets = [path for method, path in hub.seen if method == "GET"]
    assert len(gets) == len(set(gets))


def test_the_service_takes_places_beside_directories(
    hub: LocalHub, tiny_artifact: Artifact
) -> None:
    commit = hub.commit("lab/tiny", files_of(tiny_artifact))
    settings = Settings(artifact=f"{PLACE}@{commit}:/srv/other:hf://lab/more@v1")
    assert settings.artifacts == [f"{PLACE}@{commit}", "/srv/other", "hf://lab/more@v1"]
    paths = check_artifacts(Settings(artifact=PLACE))
    assert [path.name for path in paths] == [commit]
    with pytest.raises(ArtifactError, match="there is no lab/gone on the hub"):
        check_artifacts(Settings(artifact="hf://lab/gone"))
