"""A run's files: resume state and delivered weights, each one atomic safetensors file.

RUN/config.json              the FitConfig and where the data came from
RUN/checkpoint.safetensors   resume state: weights, Adam moments, idle counters, step
RUN/model.safetensors        the weights that evaluate and export read
RUN/history.jsonl            losses and validations by step
RUN/fit.json                 written last: the run is finished
RUN/logs/                    TensorBoard
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from koine.errors import TrainingError
from koine.streams import StreamSpec
from training.activations.files import fsync_file, write_atomic
from training.activations.store import ActivationStore
from training.configs import SelectorConfig
from training.model import AlignedDictionary, ModelConfig

CONFIG, CHECKPOINT, MODEL = "config.json", "checkpoint.safetensors", "model.safetensors"
HISTORY, RECORD, LOGS = "history.jsonl", "fit.json", "logs"


def write_json(path: Path, content: Any) -> None:
    """Atomic, indented, keys in the given order."""
    write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Atomic safetensors file; `facts` travel as JSON in its header."""
    part = path.with_name(f"{path.name}.tmp")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, part, metadata={"facts": json.dumps(facts)})
    part.chmod(0o644)  # safetensors writes for the owner alone; others evaluate and export
    fsync_file(part)
    part.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote; TrainingError where the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {})["facts"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(
            f"`{path}` is damaged ({error}): delete it; `fit` then starts again from what is left"
        ) from error


def save_model(run: Path, model: AlignedDictionary, step: int) -> None:
    """The delivered weights, with what is needed to rebuild the model."""
    facts = {
        "num_concepts": model.config.num_concepts,
        "k": model.config.k,
        "selection": model.config.selection,
        "selector": asdict(model.config.selector) if model.config.selector else None,
        "widths": {name: model.of(name).encoder_CD.shape[1] for name in model.streams},
        "step": step,
    }
    save_tensors(run / MODEL, model.state_dict(), facts)


def load_model(run: Path) -> AlignedDictionary:
    """The dictionary that a run delivers; TrainingError where there is none."""
    if not (run / MODEL).is_file():
        raise TrainingError(
            f"`{run}` holds no fitted dictionary (`{MODEL}` is missing): "
            "run `python -m training fit --out` there first"
        )
    tensors, facts = load_tensors(run / MODEL)
    selector = facts["selector"]
    config = ModelConfig(
        num_concepts=facts["num_concepts"],
        k=facts["k"],
        selection=facts["selection"],
        selector=SelectorConfig(**selector) if selector else None,
    )
    model = AlignedDictionary(config, facts["widths"])
    model.load_state_dict(tensors)
    return model.eval()


def shown(store: ActivationStore, record: Mapping[str, Any]) -> ActivationStore:
    """The store as a run reads it: an extended one says which of its streams, in which order."""
    if "specs" not in record:
        return store
    return store.showing([StreamSpec.model_validate(spec) for spec in record["specs"]])


def claim(run: Path, identity: dict[str, Any]) -> None:
    """Take a run directory for one configuration; TrainingError where it holds another."""
    path = run / CONFIG
    identity = json.loads(json.dumps(identity))
    if not path.is_file():
        write_json(path, identity)
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise TrainingError(f"`{path}` is damaged ({error}): choose another `--out`") from error
    if found != identity:
        raise TrainingError(
            f"`{run}` holds another run ({_differences(found, identity)}): "
            "choose another `--out`, or delete it"
        )


@contextmanager
def claimed(run: Path, identity: dict[str, Any]) -> Iterator[None]:
    """`claim` and then `held`, in a directory that is made where it is missing."""
    run.mkdir(parents=True, exist_ok=True)
    claim(run, identity)
    with held(run):
        yield


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other processes from fitting into the same directory meanwhile."""
    with (run / CONFIG).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another process is fitting into `{run}`: wait for it, or choose another `--out`"
            ) from None
        yield


def cut_history(run: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint; it is about to be logged again."""
    path = run / HISTORY
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break  # the torn last line of a killed run
    write_atomic(path, "".join(kept).encode())


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    flat_found = {**found, **found.get("fit", {})}
    flat_wanted = {**wanted, **wanted["fit"]}
    names = [n for n in flat_wanted if n != "fit" and flat_found.get(n) != flat_wanted[n]]
    return ", ".join(f"{n} {flat_found.get(n)} there, {flat_wanted[n]} asked" for n in names)
