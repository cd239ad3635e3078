"""What efficiency and rates are measured on: an artifact, samples, the shape of requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.serving import samples as made
from benchmarks.serving.artifacts import WIDE_D, built, demo
from benchmarks.serving.clients import Client, GrpcClient, HttpClient
from benchmarks.serving.load import Request
from benchmarks.serving.samples import Sample
from benchmarks.serving.server import Server


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of request to one artifact."""

    name: str
    artifact: Callable[[], Path]
    samples: Callable[[], list[Sample]]
    items: int
    """Of one request."""
    clients: int
    """Of the closed loop; enough to keep the server busy."""
    target: float | None
    """Efficiency that is wanted."""
    batches: tuple[int, ...] = (1, 8, 32)
    """Batch sizes of the raw loop, of which the best counts."""
    packed: bool = False
    """Whether the answers are."""
    grpc: bool = False

    @property
    def requests(self) -> list[Request]:
        """Its bodies."""
        samples = self.samples()
        make = made.grpc_request if self.grpc else made.request
        count = max(32, len(samples))
        return made.requests(samples, self.items, count, make, packed=self.packed)

    def client(self, server: Server) -> Client:
        """What sends them."""
        return GrpcClient(server.grpc_target) if self.grpc else HttpClient(server.url)


def _photos() -> list[Sample]:
    return made.images(16, 640, 480)


def _pictures() -> list[Sample]:
    return made.images(64, 128, 128)


def _texts() -> list[Sample]:
    return made.texts(64)


def _wide() -> list[Sample]:
    return made.activations(64, {"wide": WIDE_D})


VIT = Case(
    name="vit_b32_image", artifact=lambda: built("vit"), samples=_photos, items=1, clients=64,
    target=0.85,
)  # fmt: skip
DEMO_IMAGE = Case(
    name="demo_image", artifact=demo, samples=_pictures, items=16, clients=8, target=0.6
)
DEMO_IMAGE_ALONE = Case(
    name="demo_image_alone", artifact=demo, samples=_pictures, items=1, clients=64, target=None
)
DEMO_TEXT = Case(name="demo_text", artifact=demo, samples=_texts, items=16, clients=8, target=0.6)
DEMO_TEXT_ALONE = Case(
    name="demo_text_alone", artifact=demo, samples=_texts, items=1, clients=64, target=None
)
ACTIVATIONS = Case(
    name="activations_C8192_D768_K64", artifact=lambda: built("wide"), samples=_wide, items=64,
    clients=4, target=0.6, batches=(64,), packed=True,
)  # fmt: skip
ACTIVATIONS_GRPC = replace(ACTIVATIONS, name=f"{ACTIVATIONS.name}_grpc", grpc=True)
SMALL_IMAGE = Case(
    name="small_image", artifact=lambda: built("small"), samples=_photos, items=1, clients=32,
    target=None,
)  # fmt: skip
CASES = {
    case.name: case
    for case in (
        VIT, DEMO_IMAGE, DEMO_IMAGE_ALONE, DEMO_TEXT, DEMO_TEXT_ALONE, ACTIVATIONS,
        ACTIVATIONS_GRPC, SMALL_IMAGE,
    )
}  # fmt: skip
