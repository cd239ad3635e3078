"""Every snippet of docs/client.md runs, against a real service."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koine.client import Client, Encoded
from koine.client.calls import EncodeOptions
from koine.client.config import ClientOptions
from tests.koine.client.service_thread import Served
from tests.service.inputs import file_bytes, pixels

PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the snippets name."""
    (tmp_path / "photo.jpg").write_bytes(file_bytes(pixels(1), "JPEG"))
    np.save(tmp_path / "clip_image.npy", np.ones((3, 24), np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(snippet: str, served: Served) -> dict[str, Any]:
    """The snippet's names after it ran on the tiny artifact's service."""
    for theirs, ours in (
        ("http://localhost:3000", served.http), ("grpc://localhost:50051", served.grpc),
        ("clip_image", "tiny_a"), ("clip_text", "tiny_text"), ("tiny_a.npy", "clip_image.npy"),
    ):  # fmt: skip
        snippet = snippet.replace(theirs, ours)
    names: dict[str, Any] = {}
    exec(snippet, names)
    return names


def test_there_are_as_many_snippets_as_are_run_here() -> None:
    assert len(SNIPPETS) == 5


def test_first_steps(folder: Path, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    run(SNIPPETS[0], served)
    told = capsys.readouterr().out
    assert "0 tiny_a" in told
    assert "b tiny_text" in told


def test_event_loops(served: Served) -> None:
    encoded: Encoded = asyncio.run(run(SNIPPETS[1], served)["main"]())
    assert [set(item.codes) for item in encoded.items] == [{"tiny_text"}] * 2


def test_arrays(folder: Path, served: Served) -> None:
    names = run(SNIPPETS[2], served)
    assert names["matrix"].shape == (3, 64)
    np.testing.assert_array_equal(names["matrix"].toarray(), names["codes"].dense(64))


def test_errors(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    run(SNIPPETS[3], served)
    assert capsys.readouterr().out == ""


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    exec(SNIPPETS[4], {"Client": lambda url, **options: given.append((url, options))})
    ((url, options),) = given
    assert url.startswith("https://")
    assert options.keys() <= ClientOptions.__annotations__.keys()


def test_every_method_and_option_stands_on_the_page() -> None:
    methods = [name for name in vars(Client) if not name.startswith("_") and name != "close"]
    names = [*methods, *EncodeOptions.__annotations__, *ClientOptions.__annotations__]
    hidden = {"max_items", "transport"}  # rare; their docstrings say it
    assert [n for n in names if n not in hidden and not re.search(rf"`[^`]*\b{n}\b", PAGE)] == []
