"""`/v2`, the Open Inference Protocol: dictionaries as models, for clients such as Triton's."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import koine
from service import oip
from service.core import Core
from service.dictionary import Dictionary
from service.framing import LENGTH_HEADER, Infer, answered, read_infer
from service.routes.request import INLINE_ITEMS, Exchange, Written, check_alive, core_of, json_bytes

EXTENSIONS = ["binary_tensor_data", "model_configuration"]


async def server(request: Request) -> Response:
    """`GET /v2`: what this server is."""
    return JSONResponse({"name": "koine", "version": koine.__version__, "extensions": EXTENSIONS})


async def live(request: Request) -> Response:
    """`GET /v2/health/live`: as `/livez`."""
    check_alive(request)
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """`GET /v2/health/ready`: as `/readyz`."""
    core_of(request).check_ready()
    return JSONResponse({"ready": True})


async def model(request: Request) -> Response:
    """`GET /v2/models/{model}`: its inputs and outputs."""
    return JSONResponse(oip.model_metadata(_dictionary(request)))


async def model_ready(request: Request) -> Response:
    """`GET /v2/models/{model}/ready`."""
    core_of(request).check_ready()
    name = _dictionary(request).encoder.artifact.manifest.name
    return JSONResponse({"name": name, "ready": True})


async def model_config(request: Request) -> Response:
    """`GET /v2/models/{model}/config`, as Triton has it."""
    dictionary = _dictionary(request)
    return JSONResponse(oip.model_config(dictionary, core_of(request).settings))


async def infer(request: Request) -> Response:
    """`POST /v2/models/{model}/infer`: tensors in, codes as tensors out."""
    exchange = Exchange(request)
    core = exchange.core
    await _dictionary(request).check_room()
    read = partial(read_infer, header_length=request.headers.get(LENGTH_HEADER))
    with core.inflight.account() as account:
        asked = await exchange.read(account, read)
        inferred = await exchange.unless_gone(
            oip.infer(
                core,
                _name_and_version(request),
                asked.tensors,
                asked.parameters,
                wanted=asked.wanted,
                timeout_s=exchange.timeout_s,
                spend=exchange.spend,
            )
        )
    encoded = inferred.encoded
    write = partial(_write, inferred, asked)
    return await exchange.answer(encoded.timings, len(encoded.answers) > INLINE_ITEMS, write)


def _write(inferred: oip.Inferred, asked: Infer) -> Written:
    manifest = inferred.encoded.dictionary.encoder.artifact.manifest
    answer: dict[str, object] = {"model_name": manifest.name, "model_version": manifest.version}
    if asked.id is not None:
        answer["id"] = asked.id
    outputs, raw = answered(inferred.tensors, asked)
    header = json_bytes(answer | {"outputs": outputs})
    if not raw:
        return header, "application/json", {}
    content = b"".join([header, *raw])
    return content, "application/octet-stream", {LENGTH_HEADER: str(len(header))}


def _dictionary(request: Request) -> Dictionary:
    """Raises `NotReadyError`, `UnknownDictionaryError`."""
    core: Core = core_of(request)
    return oip.find(core, *_name_and_version(request))


def _name_and_version(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"
ROUTES = [
    Route("/v2", server),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    *(
        route
        for path in (_MODEL, _VERSION)
        for route in (
            Route(path, model),
            Route(path + "/ready", model_ready),
            Route(path + "/config", model_config),
            Route(path + "/infer", infer, methods=["POST"]),
        )
    ),
]
