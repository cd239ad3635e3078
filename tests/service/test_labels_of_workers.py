"""Two workers on one label layer: nobody's change is lost, and both soon show every change."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from koine.artifact import Artifact
from tests.service.labelled import labelled
from tests.service.process import Server, bentoml_serve

PEOPLE = 12


def alone(server: Server) -> httpx.Client:
    """A connection of its own: the kernel gives it to either worker."""
    return httpx.Client(base_url=server.client.base_url, timeout=30)


def test_workers_share_a_layer(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    settings = {
        "KOINE_ARTIFACT": str(labelled(tiny_artifact, tmp_path / "artifact").path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_WORKERS": "2",
        "KOINE_LABELS": str(tmp_path / "labels"),
    }
    with bentoml_serve(tmp_path, settings=settings) as server:

        def rename(number: int) -> int:
            with alone(server) as client:
                tag = {"if-match": seen}
                wanted = {"status": "renamed", "label": f"name {number}"}
                return client.patch("/v1/concepts/7", json=wanted, headers=tag).status_code

        seen = server.client.get("/v1/concepts/7").headers["etag"]
        with ThreadPoolExecutor(PEOPLE) as people:
            statuses = sorted(people.map(rename, range(PEOPLE)))
        assert statuses == [200, *[412] * (PEOPLE - 1)]  # all saw the same: one was first

        def shown(_: int) -> str:
            with alone(server) as client:
                (found,) = client.get("/v1/concepts?q=name").json()["concepts"]
                return str(found["label"])

        written = server.client.get("/v1/concepts/7").json()
        assert [change["revision"] for change in written["history"]] == [1]
        time.sleep(2)  # workers look at the layer every second
        with ThreadPoolExecutor(PEOPLE) as people:
            assert set(people.map(shown, range(2 * PEOPLE))) == {written["label"]}
