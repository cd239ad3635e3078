"""The other baseline: `infinity-emb` serving a CLIP of the same size, with random weights.

It needs torch and versions of its own, so it is installed by uv into runs/bench/infinity, gigabytes
of downloads, only when `KOINE_BENCH_INFINITY=1` asks for it or it is there already. The model is a
folder that transformers writes (`CLIPModel(CLIPConfig())` is ViT-B/32, of the same shape as the
artifact `vit`); nothing is fetched from a hub.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.artifacts import FOLDER, Skipped
from benchmarks.serving.load import Request
from benchmarks.serving.samples import Sample
from benchmarks.serving.server import ROOT

VARIABLE = "KOINE_BENCH_INFINITY"
PACKAGES = ("infinity-emb[server,torch,vision]", "torch==2.13.0", "torchvision==0.28.0")
PATH, READY = "/embeddings", "/health"
MODEL = "random-clip"


def environment_python(folder: Path = FOLDER) -> Path:
    """The interpreter that has infinity. Raises `Skipped`, with the reason."""
    python = folder / "infinity" / "bin" / "python"
    if not (python.parent / "infinity_emb").is_file():
        if os.environ.get(VARIABLE) != "1":
            raise Skipped(f"infinity-emb is not installed: {VARIABLE}=1 installs it (gigabytes)")
        uv = str(Path(sys.executable).with_name("uv"))
        _run([uv, "venv", "-q", "--allow-existing", "--python", "3.11", str(python.parents[1])])
        _run([uv, "pip", "install", "-q", "--python", str(python), *PACKAGES])
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Skipped(f"`{' '.join(command[1:4])}…` failed: {told[0]}")


def model_folder(folder: Path = FOLDER) -> Path:
    """A CLIP ViT-B/32 with random weights as a local folder; made once."""
    made = folder / MODEL
    if not (made / "done").is_file():
        code = f"from benchmarks.serving.infinity import write_model; write_model({str(made)!r})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    return made


def write_model(path: str) -> None:
    """Runs in a process of its own: torch must not share this one."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = Path(path)
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    _write_tokenizer(folder)
    (folder / "done").touch()


def _write_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer as every version of transformers reads it; no text is sent."""
    from training.encoders.tokenizer_files import clip_tokenizer_file

    file = clip_tokenizer_file()
    model = json.loads(file.read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    text = "\n".join(["#version: 0.2", *merges, ""])
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    described = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    processor = {"processor_class": "CLIPProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(processor))


def command(python: Path, model: Path) -> list[str]:
    """The command that serves it; one thread, no torch compilation, no reports to anybody."""
    return [
        str(python.with_name("infinity_emb")), "v2", "--model-id", str(model),
        "--served-model-name", MODEL, "--engine", "torch", "--device", "cpu",
        "--host", "127.0.0.1", "--port", "{port}", "--batch-size", "32",
        "--no-bettertransformer", "--no-model-warmup", "--log-level", "warning",
    ]  # fmt: skip


SETTINGS = {
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


def requests(samples: list[Sample]) -> list[Request]:
    """One image a request in OpenAI's shape, as a data URI."""
    found: list[Request] = []
    for sample in samples:
        image = sample.item("")["image"]
        body = {
            "model": MODEL, "modality": "image", "encoding_format": "base64",
            "input": [f"data:image/jpeg;base64,{image}"],
        }  # fmt: skip
        found.append(Request(json.dumps(body).encode()))
    return found
