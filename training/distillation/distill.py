"""`distill`: a run with one stream's encoder replaced by a small student; fits no dictionary.

RUN2 holds the same dictionary, so its concepts are RUN's; only what reads the stream's images or
texts is new. `export` makes an artifact of it as of any run.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tokenizers
import torch
from torch import nn

from koine.codes import PAD, Codes
from koine.errors import TrainingError
from koine.manifest import Distilled
from koine.streams import StreamSpec
from koine.texts import Tokens
from koine.types import ActsND, ImagesNHWC
from training.activations.rows import Split
from training.activations.store import ActivationStore
from training.checkpoint import MODEL, RECORD, claimed, load_model, write_json
from training.distillation.student import SHAPES, parameters, student_for
from training.distillation.students import FOLDER, LIST, write_student
from training.distillation.teach import TeachConfig, teach
from training.encoders.encoder import Encoder
from training.export.backbone import export_module
from training.export.build import backbone_writer, load_encoders, read_record
from training.export.examples import BATCH, Examples, held_out, source_of
from training.export.fidelity import SPEED_BATCH, chance_jaccard, speed_ratio, support_jaccard
from training.model import AlignedDictionary
from training.recipes import RECIPES

REPORT = "distill.json"


def distill(
    run: Path,
    stream: str,
    out: Path,
    config: TeachConfig,
    *,
    data: Path | None = None,
    source: str | None = None,
    encoders: Path | None = None,
    store: Path | None = None,
) -> Distilled:
    """Teaches a student of `stream` and writes the run directory `out`; the same call resumes.

    `data` is the folder that the run's store was extracted from, `encoders` that of the teacher's
    weights. Raises `TrainingError` where the run has no such stream to learn from.
    """
    record = read_record(run)
    acts = ActivationStore.open(store or Path(record["store"]), verify=False)
    spec = _spec(acts, stream)
    recipe = record["recipe"] or acts.manifest.plan.recipe
    identity = {
        "distill": dataclasses.asdict(config),
        "stream": stream,
        "run": record,
        "student": dataclasses.asdict(SHAPES[config.student]),
    }
    with claimed(out, identity):
        if (out / RECORD).is_file():
            return Distilled(**json.loads((out / REPORT).read_bytes()))
        teacher = load_encoders({stream: spec}, recipe, encoders)[stream]
        layout = source or (RECIPES[recipe]().source if recipe in RECIPES else None)
        examples = Examples(acts, {stream: teacher}, source_of(data, layout))
        model = load_model(run)
        return _distilled(run, out, record, model, acts, spec, teacher, examples, config)


def _distilled(
    run: Path,
    out: Path,
    record: Mapping[str, Any],
    model: AlignedDictionary,
    store: ActivationStore,
    spec: StreamSpec,
    teacher: Encoder,
    examples: Examples,
    config: TeachConfig,
) -> Distilled:
    inputs, acts_ND = _pairs(examples, store, spec.name, "train", config.items)
    vocabulary = _vocabulary(teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        student = student_for(spec, config.student, vocabulary)
    teach(student, model, spec.name, inputs, acts_ND, config, out)
    assert spec.encoder is not None
    assert teacher.module is not None
    about = Distilled(
        teacher=spec.encoder,
        student=config.student,
        items=len(acts_ND),
        steps=config.steps,
        seed=config.seed,
        parameters=parameters(student),
        parameters_teacher=parameters(teacher.module),
        metrics=_metrics(model, student, teacher, spec, examples, store),
    )
    for name in (MODEL, LIST):
        if (run / name).is_file():
            shutil.copyfile(run / name, out / name)
    if (run / FOLDER).is_dir():
        shutil.copytree(run / FOLDER, out / FOLDER, dirs_exist_ok=True)
    own_ND = torch.from_numpy(_run(student, inputs)).half()
    write_student(out, spec, config.student, student, own_ND, about, vocabulary)
    write_json(out / REPORT, about.model_dump(mode="json"))
    write_json(out / RECORD, dict(record) | {"store": str(store.path.absolute())})
    return about


def _spec(store: ActivationStore, stream: str) -> StreamSpec:
    spec = next((s for s in store.streams if s.name == stream), None)
    if spec is None:
        names = ", ".join(s.name for s in store.streams)
        raise TrainingError(f"the run has no stream `{stream}`; give --stream one of {names}")
    if spec.encoder is None:
        raise TrainingError(
            f"stream `{stream}` holds imported activations: nothing says what a student would "
            "read; give a stream with an encoder"
        )
    return spec


def _pairs(
    examples: Examples, store: ActivationStore, name: str, split: Split, limit: int
) -> tuple[ImagesNHWC | Tokens, ActsND]:
    """What the backbone reads of a split's items, and the teacher's activations of them."""
    rows_N = store.split(split)[:limit]
    inputs = examples.all_of(name, split, limit)
    found = len(inputs.ids_NT) if isinstance(inputs, Tokens) else len(inputs)
    if found != len(rows_N):
        raise TrainingError(
            f"the data gives {found:,} {split} items for stream `{name}`, the store has "
            f"{len(rows_N):,}; give the folder that `extract` read"
        )
    acts, present_NS = store.gather(rows_N)
    if not present_NS[:, list(acts).index(name)].all():
        raise TrainingError(
            f"some {split} items of the store lack stream `{name}`; a student needs a stream that "
            "every item has"
        )
    return inputs, acts[name]


def _vocabulary(teacher: Encoder) -> int | None:
    if teacher.tokenizer_file is None:
        return None
    return tokenizers.Tokenizer.from_file(str(teacher.tokenizer_file)).get_vocab_size()


@torch.inference_mode()
def _run(student: nn.Module, inputs: ImagesNHWC | Tokens) -> ActsND:
    arrays = tuple(inputs) if isinstance(inputs, Tokens) else (inputs,)
    starts = range(0, len(arrays[0]), BATCH)
    return np.concatenate(
        [student(*(torch.from_numpy(a[i : i + BATCH]) for a in arrays)).numpy() for i in starts]
    )


def _metrics(
    model: AlignedDictionary,
    student: nn.Module,
    teacher: Encoder,
    spec: StreamSpec,
    examples: Examples,
    store: ActivationStore,
) -> dict[str, float]:
    """The student's codes against the teacher's on held-out items, and its size and speed."""
    split = held_out(store)
    inputs, teacher_ND = _pairs(examples, store, spec.name, split, 10**9)
    student_ND = _run(student, inputs)
    ours, wanted = (_codes(model, spec.name, acts_ND) for acts_ND in (student_ND, teacher_ND))
    overlap, chance = support_jaccard(ours, wanted), chance_jaccard(ours, wanted)
    cosine_N = (student_ND * teacher_ND).sum(1) / (
        np.linalg.norm(student_ND, axis=1) * np.linalg.norm(teacher_ND, axis=1) + 1e-12
    )
    figures = {
        "items": float(len(teacher_ND)),
        "support_jaccard": overlap,
        "support_jaccard_chance": chance,
        "support_jaccard_adjusted": (overlap - chance) / (1 - chance) if chance < 1 else 0.0,
        "recall_at_1": _recall(ours, wanted, 1),
        "recall_at_5": _recall(ours, wanted, 5),
        "recall_at_10": _recall(ours, wanted, 10),
        "cosine": float(cosine_N.mean()),
    }
    return {k: round(v, 4) for k, v in figures.items()} | _weight(student, teacher, spec, inputs)


def _codes(model: AlignedDictionary, name: str, acts_ND: ActsND) -> Codes:
    found = model.encode({name: torch.from_numpy(acts_ND)}, "independent")[name]
    values_NK = found.values_NK.numpy()
    indices_NK = np.where(values_NK > 0, found.indices_NK.numpy(), PAD).astype(np.int32)
    return Codes(indices_NK, values_NK, np.zeros(len(acts_ND), np.float32))


def _recall(ours: Codes, wanted: Codes, count: int) -> float:
    """Share of the teacher's `count` strongest concepts that the student activates too."""
    top_NM = wanted.indices_NK[:, :count]
    found_NM = (top_NM[:, :, None] == ours.indices_NK[:, None, :]).any(2)
    return float(found_NM[top_NM != PAD].mean())


def _weight(
    student: nn.Module, teacher: Encoder, spec: StreamSpec, inputs: ImagesNHWC | Tokens
) -> dict[str, float]:
    """Bytes of both graphs, and the teacher's time over the student's on one thread."""
    if isinstance(inputs, Tokens):
        batch = Tokens(inputs.ids_NT[:SPEED_BATCH], inputs.mask_NT[:SPEED_BATCH])
    else:
        batch = inputs[:SPEED_BATCH]
    with TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "student.onnx", Path(folder) / "teacher.onnx"
        export_module(student, spec, ours)
        backbone_writer(teacher, spec)(theirs)
        return {
            "bytes": float(ours.stat().st_size),
            "bytes_teacher": float(theirs.stat().st_size),
            "speed": round(speed_ratio(theirs, ours, batch), 2),
        }
