"""`GET /v1/info`: what is served here, and within which limits."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import koine
from koine.encoder import ConceptEncoder
from service import jobs
from service.routes.request import core_of
from service.schemas import InfoResponse, Limits, StreamInfo


async def info(request: Request) -> Response:
    """`GET /v1/info`: the dictionary, its streams and the limits."""
    core = core_of(request)
    settings = core.settings
    served = core.dictionaries.served
    asked = core.dictionaries.find(request.query_params.get("dictionary"))
    encoder = asked.encoder
    manifest = encoder.artifact.manifest
    answer = InfoResponse(
        dictionary=manifest.title,
        dictionaries=[dictionary.title for dictionary in served],
        digest=encoder.artifact.digest,
        num_concepts=encoder.num_concepts,
        k=encoder.k,
        joint=manifest.selection.joint,
        streams=[_stream_info(encoder, name) for name in encoder.streams],
        limits=Limits(
            body_bytes=settings.max_body_bytes,
            items=settings.max_items,
            pixels=settings.max_pixels,
            text_chars=settings.max_text_chars,
            queue_items=settings.max_queue,
            inflight_bytes=settings.max_inflight_bytes,
            wait_seconds=settings.max_wait_s,
            timeout_seconds=settings.timeout_s,
        ),
        max_batch=settings.max_batch,
        provider=encoder.provider,
        versions={
            "koine": koine.__version__,
            "artifact_format": str(manifest.format_version),
            "bentoml": version("bentoml"),
        },
    )
    return JSONResponse(answer.model_dump())


def _stream_info(encoder: ConceptEncoder, name: str) -> StreamInfo:
    spec = encoder.streams[name]
    accepts = ["activations"]
    if jobs.readable(encoder, name):
        accepts.insert(0, spec.modality)
    return StreamInfo(
        name=name,
        modality=spec.modality,
        d_in=spec.d_in,
        accepts=accepts,  # pyright: ignore[reportArgumentType] # validated by the model
        encoder=spec.encoder.name if spec.encoder else None,
        revision=spec.encoder.revision if spec.encoder else None,
    )
