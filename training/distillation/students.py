"""Students in a run directory: RUN/distilled.json and, by stream, RUN/distilled/NAME.safetensors.

Writes and reads them; teaches none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from koine.errors import ExportError
from koine.manifest import Distilled
from koine.streams import EncoderIdentity, StreamSpec, TextPreprocess
from koine.types import ActsND
from training.checkpoint import save_tensors, write_json
from training.distillation.student import Size, fill, student_for
from training.encoders.encoder import Encoder, TorchBackbone
from training.encoders.weights import revision_of_tensors

LIST, FOLDER = "distilled.json", "distilled"
_ACTS = "acts_ND"
_PREFIX = "student."


class Kept(NamedTuple):
    """A student as a run keeps it."""

    about: Distilled
    encoder: Encoder
    spec: StreamSpec
    """The stream's, with the student's identity."""
    acts_ND: ActsND
    """Its activations of the training items that it learnt from."""


def write_student(
    run: Path,
    spec: StreamSpec,
    size: Size,
    student: nn.Module,
    acts: Tensor,
    about: Distilled,
    vocabulary: int | None,
) -> None:
    """Adds a student to the run's."""
    (run / FOLDER).mkdir(exist_ok=True)
    tensors = {f"{_PREFIX}{name}": value for name, value in student.state_dict().items()}
    save_tensors(run / FOLDER / f"{spec.name}.safetensors", tensors | {_ACTS: acts}, {})
    entry = {"size": size, "vocabulary": vocabulary, "about": about.model_dump(mode="json")}
    write_json(run / LIST, _read(run) | {spec.name: entry})


def read_students(run: Path, specs: dict[str, StreamSpec], store: Path) -> dict[str, Kept]:
    """The run's students by stream; none where nothing was distilled.

    `store`: folder of the activation store, which keeps the tokenizers of text streams. Raises
    `ExportError` where files are missing or damaged.
    """
    kept: dict[str, Kept] = {}
    for name, entry in _read(run).items():
        spec, path = specs[name], run / FOLDER / f"{name}.safetensors"
        try:
            tensors = load_file(path)
            acts_ND = tensors.pop(_ACTS).float().numpy()
            weights = {key.removeprefix(_PREFIX): value for key, value in tensors.items()}
            student = fill(student_for(spec, entry["size"], entry["vocabulary"]), weights)
        except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise ExportError(
                f"{path} holds no student of stream `{name}` ({error}); distill again"
            ) from error
        kept[name] = _kept(Distilled(**entry["about"]), student, spec, store, acts_ND)
    return kept


def _kept(
    about: Distilled, student: nn.Module, spec: StreamSpec, store: Path, acts_ND: ActsND
) -> Kept:
    identity = EncoderIdentity(
        kind=about.teacher.kind,
        name=f"{about.teacher.name}-{about.student}",
        revision=revision_of_tensors(student.state_dict()),
        pooling=about.teacher.pooling,
    )
    assert spec.preprocess is not None
    preprocess, tokenizer = spec.preprocess, None
    if isinstance(preprocess, TextPreprocess):
        tokenizer = store / preprocess.tokenizer
        preprocess = preprocess.model_copy(update={"tokenizer": tokenizer.name})
    encoder = Encoder(
        identity=identity,
        d_in=spec.d_in,
        preprocess=preprocess,
        backbone=TorchBackbone(student),
        tokenizer_file=tokenizer,
    )
    return Kept(about, encoder, spec.model_copy(update={"encoder": identity}), acts_ND)


def _read(run: Path) -> dict[str, dict[str, Any]]:
    path = run / LIST
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ExportError(f"{path} is damaged ({error}); distill again") from error
