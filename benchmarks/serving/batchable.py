"""The baseline for rates: the same encoder behind BentoML's own batching, as its users write it.

`bentoml serve benchmarks.serving.batchable:Batchable`. Images come one a request, base64 in JSON;
answers have the service's shape. `BASELINE_LATENCY_MS` is `max_latency_ms`, beyond which
BentoML drops requests. Its metrics and access log are off, as Koine's are. Only its server imports
this file.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from benchmarks.serving.batching import (
    ARTIFACT_VARIABLE,
    LATENCIES_MS,
    LATENCY_VARIABLE,
    MAX_BATCH,
    PATH,
)
from koine.artifact import Artifact
from koine.codes import PAD
from koine.encoder import ConceptEncoder
from koine.images import MAX_PIXELS, decode_image
from koine.sessions import CPU


@bentoml.service(
    name="batchable",
    traffic={"timeout": 120},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Batchable:
    """Codes of single images, batched by BentoML."""

    def __init__(self) -> None:
        artifact = Artifact.open(Path(os.environ[ARTIFACT_VARIABLE]))
        self._encoder = ConceptEncoder(artifact, providers=[CPU], threads=1)
        self._encoder.warm_up()
        specs = self._encoder.streams.values()
        self._streams = [spec.name for spec in specs if spec.modality == "image"]

    @bentoml.api(
        route=PATH,
        batchable=True,
        max_batch_size=MAX_BATCH,
        max_latency_ms=int(os.environ.get(LATENCY_VARIABLE, LATENCIES_MS[0])),
    )
    def encode(self, images: list[str]) -> list[dict[str, Any]]:
        """Codes of each, by stream."""
        decoded = [decode_image(base64.b64decode(one), max_pixels=MAX_PIXELS) for one in images]
        made: dict[object, np.ndarray] = {}
        acts: dict[str, np.ndarray] = {}
        for name in self._streams:
            spec = self._encoder.streams[name].preprocess
            if spec not in made:
                made[spec] = np.stack([self._encoder.preprocess(name, one) for one in decoded])
            acts[name] = self._encoder.activations(name, made[spec])
        codes = self._encoder.encode(acts)
        return [
            {
                name: {
                    "indices": one.indices_NK[n][one.indices_NK[n] != PAD].tolist(),
                    "values": one.values_NK[n][one.indices_NK[n] != PAD].tolist(),
                    "fvu": float(one.fvu_N[n]),
                }
                for name, one in codes.items()
            }
            for n in range(len(images))
        ]
