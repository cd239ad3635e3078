"""Any ONNX file as an encoder, so that a model of one's own can join; knows no architecture."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import load_external_data_for_model

from koine.errors import EncoderError
from koine.streams import EncoderIdentity, ImagePreprocess, TextPreprocess
from koine.texts import Tokens
from koine.types import ActsND, ImagesNHWC
from training.encoders.config import EncoderConfig
from training.encoders.encoder import Encoder
from training.encoders.onnx_graph import TEXT_INPUTS, as_backbone
from training.encoders.tokenizer_files import text_preprocess
from training.encoders.weights import find_files, one_line, revision_of_files


class OnnxBackbone:
    """A session of ONNX Runtime over a backbone with the artifact's names."""

    def __init__(self, path: Path, device: str) -> None:
        wanted = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            wanted.insert(0, "CUDAExecutionProvider")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised as well
        self._session = onnxruntime.InferenceSession(path, options, providers=wanted)

    def __call__(self, batch: ImagesNHWC | Tokens) -> ActsND:
        return self.output(batch)

    def output(self, batch: ImagesNHWC | Tokens) -> np.ndarray:
        """What the graph gives, of whatever shape."""
        feeds = {"image": batch}
        if isinstance(batch, Tokens):
            feeds = dict(zip(TEXT_INPUTS, batch, strict=True))
        (output,) = self._session.run(["acts"], feeds)
        return np.asarray(output)


def load_onnx(config: EncoderConfig, folder: Path | None, device: str) -> Encoder:
    """Load a file with a dynamic batch axis and one vector per item as its first output."""
    path = find_files(config.name, config.weights, folder).weights("model.onnx")
    model = _read(path)
    revision = revision_of_files(path, *_external(model, path))
    load_external_data_for_model(model, str(path.parent))
    spec, tokenizer = _preprocess(config, path)
    model = as_backbone(model, path, spec)
    file = Path(tempfile.mkdtemp(dir=_folder())) / "backbone.onnx"
    onnx.save_model(model, file, save_as_external_data=False)
    backbone, d_in = _tried(file, device, path, spec)
    return Encoder(
        identity=EncoderIdentity(
            kind="onnx", name=config.name, revision=revision, pooling=config.pooling
        ),
        d_in=d_in,
        preprocess=spec,
        backbone=backbone,
        tokenizer_file=tokenizer,
        onnx_file=file,
    )


@functools.cache
def _folder() -> Path:
    """Where rewritten graphs lie until we exit."""
    folder = Path(tempfile.mkdtemp(prefix="koine-onnx-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model(path, load_external_data=False)
        onnx.checker.check_model(str(path))
    except Exception as error:  # the parser's and the checker's errors share no base
        raise EncoderError(
            f"{path} is no valid ONNX file: {one_line(error)}; export it again"
        ) from error
    return model


def _external(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Files beside the graph that hold its tensors, in order of name."""
    names = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path.parent / name for name in sorted(names)]


def _preprocess(
    config: EncoderConfig, path: Path
) -> tuple[ImagePreprocess | TextPreprocess, Path | None]:
    if config.preprocess is not None:
        return config.preprocess, None
    options = dict(config.kwargs)
    tokenizer = path.parent / options.pop("tokenizer", "tokenizer.json")
    if not tokenizer.is_file():
        raise EncoderError(
            f"encoder `{config.name}` reads texts and has no tokenizer at {tokenizer}; put its "
            "tokenizer.json there"
        )
    if config.context_length is None:
        raise EncoderError(
            f"encoder `{config.name}` reads texts: state `context_length` in the recipe"
        )
    return text_preprocess(tokenizer, config.context_length, **options), tokenizer


def _tried(
    file: Path, device: str, path: Path, spec: ImagePreprocess | TextPreprocess
) -> tuple[OnnxBackbone, int]:
    """The backbone and its width D, from two items: a fixed batch size fails here at once."""
    if isinstance(spec, ImagePreprocess):
        batch = np.zeros((2, spec.crop_size, spec.crop_size, 3), np.uint8)
    else:
        ones_NT = np.ones((2, spec.context_length), np.int64)
        batch = Tokens(ones_NT, ones_NT)
    try:
        backbone = OnnxBackbone(file, device)
        output = backbone.output(batch)
    except Exception as error:  # ONNX Runtime's errors share no base
        raise EncoderError(
            f"{path} does not run on two items: {one_line(error)}; export it with a dynamic "
            "batch axis and for the size of the recipe's preprocessing"
        ) from error
    if output.ndim != 2 or len(output) != 2:
        raise EncoderError(
            f"{path} gives {output.shape} for two items, one vector each is needed; put the "
            "pooling into the graph"
        )
    return backbone, output.shape[1]
