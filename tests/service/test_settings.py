"""`KOINE_*` variables: read once, refused with their name, unknown ones pointed out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr

from koine.artifact import Artifact
from koine.errors import ArtifactError, SettingsError
from service.cache import CodeCache
from service.dictionaries import check_artifacts
from service.settings import Settings, read_settings


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOINE_ARTIFACT", "/some/where")
    monkeypatch.setenv("KOINE_MAX_BATCH", "7")
    monkeypatch.setenv("KOINE_PROVIDER", "cuda")
    settings = read_settings()
    assert (settings.artifact, settings.max_batch) == ("/some/where", 7)
    assert settings.provider == "cuda"
    assert settings.max_items == Settings().max_items


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("KOINE_MAX_BATCH", "many", "KOINE_MAX_BATCH='many'.*integer"),
        ("KOINE_MAX_BATCH", "0", "KOINE_MAX_BATCH='0'.*greater than or equal to 1"),
        ("KOINE_PROVIDER", "gpu", "KOINE_PROVIDER='gpu'.*'auto', 'cpu' or 'cuda'"),
        ("KOINE_HTTP_PORT", "70000", "KOINE_HTTP_PORT='70000'.*65535"),
        ("KOINE_MAX_QUEUE", "5", "KOINE_MAX_QUEUE` 5 is smaller than `KOINE_MAX_ITEMS` 256"),
    ],
)
def test_bad_variables_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=words):
        read_settings()


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "http://:s3cret@cache:6379",
        "redis://",
        "redis://:s3cret/more@cache:6379",  # what follows `:` reads as a port
        "redis://:s3cret@cache:70000",
        "rediss://[s3cret",
        "unix://",
    ],
)
def test_an_unreadable_address_of_redis_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("KOINE_REDIS_URL", url)
    with pytest.raises(SettingsError, match="`KOINE_REDIS_URL` is no address of Redis") as caught:
        read_settings()
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "url", ["redis://cache", "rediss://me:p%2Fw@cache:6380/1", "unix:///run/redis.sock"]
)
def test_addresses_of_redis(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("KOINE_REDIS_URL", url)
    settings = read_settings()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == url
    assert "p%2Fw" not in repr(settings)
    assert CodeCache.of(settings) is not None


def test_an_address_that_only_its_client_refuses_is_not_shown_either() -> None:
    url = SecretStr("redis://:s3cret@cache?socket_timeout=s3cret")
    with pytest.raises(SettingsError, match="`KOINE_REDIS_URL` cannot be read") as caught:
        CodeCache.of(Settings(redis_url=url))
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"


def test_unknown_variables_are_pointed_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KOINE_MAX_BACTH", "7")
    monkeypatch.setenv("KOINE_SERVICE_HOST", "10.0.0.1")  # put there by Kubernetes
    monkeypatch.setenv("KOINE_PORT_3000_TCP_ADDR", "10.0.0.1")
    read_settings()
    assert [record.getMessage() for record in caplog.records] == [
        "KOINE_MAX_BACTH is no setting of this service and is ignored"
    ]


def test_an_unset_artifact_says_what_to_set() -> None:
    with pytest.raises(ArtifactError, match="KOINE_ARTIFACT is not set; set it to"):
        check_artifacts(Settings())


def test_a_changed_artifact_is_refused(tiny_artifact: Artifact, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_artifact.path, tmp_path / "artifact")
    weights = copy / "decoders.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"decoders\.safetensors was changed"):
        check_artifacts(Settings(artifact=str(copy)))
