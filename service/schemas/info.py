"""The JSON of `/v1/info` and of the probes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from koine.types import Modality


class StreamInfo(BaseModel):
    """One stream of the dictionary."""

    name: str
    modality: Modality
    d_in: int = Field(description="Width of its activations.")
    accepts: list[Literal["image", "text", "activations"]]
    encoder: str | None = Field(description="Name of the encoder that it comes from.")
    revision: str | None = Field(description="SHA-256 of that encoder's weights.")


class Limits(BaseModel):
    """What is refused beyond."""

    body_bytes: int
    items: int
    pixels: int
    text_chars: int
    queue_items: int
    inflight_bytes: int
    wait_seconds: float
    timeout_seconds: float


class InfoResponse(BaseModel):
    """Answer of `GET /v1/info`."""

    dictionary: str
    dictionaries: list[str] = Field(description="All that are served, the default first.")
    digest: str = Field(description="SHA-256 of the artifact's manifest.")
    num_concepts: int
    k: int
    joint: str = Field(description="How joint encoding selects.")
    streams: list[StreamInfo]
    limits: Limits
    max_batch: int
    provider: str
    versions: dict[str, str]


class Health(BaseModel):
    """Answer of `/livez` and `/readyz`."""

    status: Literal["alive", "ready"]
