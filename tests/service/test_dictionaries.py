"""Several dictionaries side by side, and each replaced while requests go on."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from koine.artifact import Artifact
from koine.errors import ArtifactError
from service.dictionaries import check_artifacts
from service.settings import Settings
from tests.service.test_load import grown, scrape, service
from tests.tiny import tiny_draft
from training.export.artifact import staged, write_artifact

TEXT = {"inputs": [{"text": "a dog"}]}


def write_version(folder: Path, version: str, name: str = "tiny") -> Path:
    """The tiny artifact under another version, at `folder/artifact`."""
    folder.mkdir(exist_ok=True)
    draft = tiny_draft(folder)
    with staged(folder / "artifact") as stage:
        write_artifact(stage, replace(draft, name=name, version=version))
    return folder / "artifact"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifacts `tiny@0.1`, `tiny@0.2` and `other@1`; read only."""
    folder = tmp_path_factory.mktemp("versions")
    return {
        "0.1": write_version(folder / "one", "0.1"),
        "0.2": write_version(folder / "two", "0.2"),
        "other": write_version(folder / "other", "1", "other"),
    }


def run(
    artifacts: str, body: Callable[[httpx.AsyncClient], Awaitable[None]], reload_s: float = 0.05
) -> None:
    """Runs `body` against a service of these artifacts."""

    async def main() -> None:
        async with service(artifacts, reload_s=reload_s) as client:
            await body(client)

    asyncio.run(main())


def put(artifact: Path, link: Path) -> None:
    """Points `link` to another artifact in one rename, as a deployment would."""
    new = link.with_name("new")
    new.symlink_to(artifact)
    os.replace(new, link)


async def title(client: httpx.AsyncClient, dictionary: str | None = None) -> str:
    """Which dictionary answers."""
    asked = TEXT if dictionary is None else TEXT | {"dictionary": dictionary}
    answer = await client.post("/v1/encode", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["dictionary"]


async def until(client: httpx.AsyncClient, wanted: str) -> None:
    """Returns when the default dictionary is `wanted`."""
    for _ in range(600):
        if await title(client) == wanted:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{wanted} never came")


def test_dictionaries_stand_side_by_side(versions: dict[str, Path]) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        assert await title(client) == "tiny@0.1"
        assert await title(client, "tiny") == "tiny@0.1"
        assert await title(client, "tiny@0.2") == "tiny@0.2"
        assert await title(client, "other") == "other@1"
        info = (await client.get("/v1/info", params={"dictionary": "other"})).json()
        assert info["dictionary"] == "other@1"
        assert info["dictionaries"] == ["tiny@0.1", "tiny@0.2", "other@1"]

    run(os.pathsep.join(map(str, versions.values())), body)


def test_two_of_one_title_are_refused(versions: dict[str, Path]) -> None:
    twice = f"{versions['0.1']}{os.pathsep}{versions['0.1']}"
    with pytest.raises(ArtifactError, match=r"two artifacts are called tiny@0\.1"):
        check_artifacts(Settings(artifact=twice))


def test_a_new_version_takes_over_and_no_request_fails(
    versions: dict[str, Path], tmp_path: Path
) -> None:
    link = tmp_path / "artifact"
    link.symlink_to(versions["0.1"])

    async def body(client: httpx.AsyncClient) -> None:
        before, going, seen = await scrape(client), True, []

        async def asking() -> None:
            while going:
                seen.append(await title(client))

        clients = [asyncio.create_task(asking()) for _ in range(4)]
        await asyncio.sleep(0.2)
        put(versions["0.2"], link)
        await until(client, "tiny@0.2")
        put(versions["0.1"], link)  # and back
        await until(client, "tiny@0.1")
        going = False
        await asyncio.gather(*clients)
        assert set(seen) == {"tiny@0.1", "tiny@0.2"}
        after = await scrape(client)
        assert grown(before, after, "koine_reloads_total", "ok") == 2
        assert after["koine_queue_items", "tiny_text"] == 0

    run(str(link), body)


def test_a_broken_artifact_leaves_the_old_one(versions: dict[str, Path], tmp_path: Path) -> None:
    link, broken = tmp_path / "artifact", tmp_path / "broken"
    link.symlink_to(versions["0.1"])
    shutil.copytree(versions["0.2"], broken)
    (broken / "decoders.safetensors").write_bytes(b"cut")

    async def body(client: httpx.AsyncClient) -> None:
        before = await scrape(client)
        put(broken, link)
        for _ in range(600):
            if grown(before, await scrape(client), "koine_reloads_total", "error"):
                break
            await asyncio.sleep(0.02)
        assert await title(client) == "tiny@0.1"
        link.unlink()  # gone altogether
        await asyncio.sleep(0.2)
        assert await title(client) == "tiny@0.1"
        assert (await client.get("/readyz")).status_code == 200
        link.symlink_to(versions["0.2"])
        await until(client, "tiny@0.2")

    run(str(link), body)


def test_an_artifact_that_is_touched_but_equal_is_not_reloaded(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_artifact.path, tmp_path / "artifact"))

    async def body(client: httpx.AsyncClient) -> None:
        before = await scrape(client)
        os.utime(copy / "manifest.json")
        await asyncio.sleep(0.5)
        after = await scrape(client)
        assert grown(before, after, "koine_reloads_total", "ok") == 0
        assert await title(client) == "tiny@0.1"

    run(str(copy), body)
