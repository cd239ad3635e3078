"""inference.GRPCInferenceService, the Open Inference Protocol's messages; the tensors' meaning
stands in service/oip.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
import numpy as np

import koine
from koine.errors import KoineError, NotReadyError, RequestError, UnknownDictionaryError
from koine.proto.inference import open_inference_pb2 as pb
from service import oip
from service.core import Core
from service.rpc.edge import TIMINGS_TRAILER, Edge, Handler, Rpc
from service.rpc.health import ready
from service.tensors import Tensor, raw_bytes, raw_tensor, typed_tensor

SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
EXTENSIONS = ("model_configuration",)


def handlers(core: Core, edge: Edge) -> grpc.GenericRpcHandler:
    """The service."""
    return grpc.method_handlers_generic_handler(SERVICE, methods(core, edge))


def methods(core: Core, edge: Edge) -> dict[str, Handler]:
    """A handler for each method of the definition."""
    models = Models(core)
    route = f"/{SERVICE}/"
    return {
        "ServerLive": edge.probe(pb.ServerLiveRequest, models.server_live),
        "ServerReady": edge.probe(pb.ServerReadyRequest, models.server_ready),
        "ModelReady": edge.probe(pb.ModelReadyRequest, models.model_ready),
        "ServerMetadata": edge.probe(pb.ServerMetadataRequest, models.server_metadata),
        "ModelMetadata": edge.unary(
            route + "ModelMetadata", pb.ModelMetadataRequest, models.model_metadata, "read"
        ),
        "ModelConfig": edge.unary(
            route + "ModelConfig", pb.ModelConfigRequest, models.model_config, "read"
        ),
        "ModelInfer": edge.unary(
            route + "ModelInfer", pb.ModelInferRequest, models.infer, "encode"
        ),
        "ModelStreamInfer": edge.stream(
            route + "ModelStreamInfer", pb.ModelInferRequest, models.infer_one, "encode", _failed
        ),
    }


class Models:
    """What the methods do."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether every loop beats; true while loading."""
        return pb.ServerLiveResponse(live=self._core.alive)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether requests are answered."""
        return pb.ServerReadyResponse(ready=ready(self._core))

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether the dictionary is served; false too for one that is not known."""
        try:
            oip.find(self._core, request.name, request.version)
        except (NotReadyError, UnknownDictionaryError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=ready(self._core))

    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """What this server is."""
        return pb.ServerMetadataResponse(
            name="koine", version=koine.__version__, extensions=EXTENSIONS
        )

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, rpc: Rpc
    ) -> pb.ModelMetadataResponse:
        """A dictionary's inputs and outputs."""
        dictionary = oip.find(self._core, request.name, request.version)
        return pb.ModelMetadataResponse(**oip.model_metadata(dictionary))

    async def model_config(
        self, request: pb.ModelConfigRequest, rpc: Rpc
    ) -> pb.ModelConfigResponse:
        """The same as Triton's clients ask for it."""
        dictionary = oip.find(self._core, request.name, request.version)
        config = oip.model_config(dictionary, self._core.settings)
        return pb.ModelConfigResponse(config=pb.ModelConfig(**config))

    async def infer(self, request: pb.ModelInferRequest, rpc: Rpc) -> pb.ModelInferResponse:
        """Tensors in, codes as tensors out; the timings in the trailers."""
        response, header = await self._inferred(request, rpc)
        rpc.context.set_trailing_metadata(((TIMINGS_TRAILER, header),))
        return response

    async def infer_one(
        self, request: pb.ModelInferRequest, rpc: Rpc
    ) -> pb.ModelStreamInferResponse:
        """The same for one request of a stream."""
        response, _ = await self._inferred(request, rpc)
        return pb.ModelStreamInferResponse(infer_response=response)

    async def _inferred(
        self, request: pb.ModelInferRequest, rpc: Rpc
    ) -> tuple[pb.ModelInferResponse, str]:
        encoded, tensors = await oip.infer(
            self._core,
            (request.model_name, request.model_version),
            _tensors(request),
            _parameters(request.parameters),
            wanted=[output.name for output in request.outputs] or None,
            timeout_s=rpc.timeout_s,
            spend=rpc.spend,
        )
        manifest = encoded.dictionary.encoder.artifact.manifest
        response = pb.ModelInferResponse(
            model_name=manifest.name, model_version=manifest.version, id=request.id
        )
        _write(response, tensors, typed=not request.raw_input_contents)
        return response, rpc.timed(encoded.timings, 0.0).header()


def _failed(request: pb.ModelInferRequest | None, error: KoineError) -> pb.ModelStreamInferResponse:
    # Triton's clients find the request by the id of a response that is otherwise empty
    response = None if request is None else pb.ModelInferResponse(id=request.id)
    return pb.ModelStreamInferResponse(error_message=str(error), infer_response=response)


def _parameters(given: Mapping[str, pb.InferParameter]) -> dict[str, object]:
    parameters: dict[str, object] = {}
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise RequestError(f"the parameter `{name[:64]}` has no value; give it one")
        parameters[name] = getattr(parameter, choice)
    return parameters


def _tensors(request: pb.ModelInferRequest) -> list[Tensor]:
    """The inputs, from their raw contents or typed ones. Raises `RequestError`."""
    raws = request.raw_input_contents
    for tensor in request.inputs:
        if "shared_memory_region" in tensor.parameters:
            raise RequestError(
                f"the input `{tensor.name[:64]}` is in shared memory, which this service does not "
                "read; send its contents"
            )
        if raws and tensor.HasField("contents"):
            raise RequestError(
                f"the input `{tensor.name[:64]}` has contents beside `raw_input_contents`; send "
                "one of them"
            )
    if not raws:
        return [_typed(tensor) for tensor in request.inputs]
    if len(raws) != len(request.inputs):
        raise RequestError(
            f"the request has {len(request.inputs)} inputs and {len(raws)} `raw_input_contents`; "
            "send one for each"
        )
    return [
        raw_tensor(tensor.name, tensor.datatype, tensor.shape, raw)
        for tensor, raw in zip(request.inputs, raws, strict=True)
    ]


def _typed(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    contents = tensor.contents
    filled = [field.name for field, _ in contents.ListFields()]
    expected = "bytes_contents" if tensor.datatype == "BYTES" else "fp32_contents"
    if filled not in ([], [expected]):
        raise RequestError(
            f"the input `{tensor.name[:64]}` of datatype {tensor.datatype[:16]!r} has "
            f"{', '.join(filled)}; send {expected}"
        )
    values: Sequence[float] | Sequence[bytes] = getattr(contents, expected)
    return typed_tensor(tensor.name, tensor.datatype, tensor.shape, values)


def _write(response: pb.ModelInferResponse, tensors: Sequence[Tensor], *, typed: bool) -> None:
    """As the request had it: typed contents for typed, raw for raw."""
    for tensor in tensors:
        output = response.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
        )
        if not typed:
            response.raw_output_contents.append(raw_bytes(tensor))
            continue
        assert isinstance(tensor.data, np.ndarray)
        flat = tensor.data.ravel().tolist()
        if tensor.datatype == "INT32":
            output.contents.int_contents.extend(flat)
        else:
            output.contents.fp32_contents.extend(flat)
