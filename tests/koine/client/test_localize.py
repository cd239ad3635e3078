"""`localize` of every client, over both transports."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from koine.artifact import Artifact
from koine.errors import RequestError, UnknownConceptError
from tests.koine.client.conftest import KINDS
from tests.koine.client.service_thread import Served, serving
from tests.service.inputs import pixels, png


@pytest.fixture(scope="module")
def localising(localising_artifact: Artifact) -> Iterator[Served]:
    with serving(localising_artifact) as served:
        yield served


@pytest.mark.parametrize("kind", KINDS)
def test_both_transports_tell_the_same(localising: Served, kind: str) -> None:
    ask = KINDS[kind]
    http, grpc = (
        ask(url, "localize", png(1), client={}, text="dog")
        for url in (localising.http, localising.grpc)
    )
    assert http.concept == grpc.concept
    assert (http.concept.id, http.by, http.score) == (8, "label", 1.0)
    assert http.heat_GG.shape == (8, 8)
    np.testing.assert_allclose(http.heat_GG, grpc.heat_GG, rtol=1e-6)
    assert http.box == grpc.box
    assert http.overlay == grpc.overlay
    assert Image.open(io.BytesIO(http.overlay)).size == http.size == (50, 40)


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_refusals_are_the_same_errors(localising: Served, wire: str) -> None:
    url = localising.http if wire == "http" else localising.grpc
    with pytest.raises(UnknownConceptError):
        KINDS["sync"](url, "localize", pixels(1), client={}, concept=64)
    with pytest.raises(RequestError, match="neither"):
        KINDS["sync"](url, "localize", pixels(1), client={})
