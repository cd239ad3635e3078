"""Sends the running service one request of each kind and prints what came back."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.activations.store import ActivationStore

TOP_SHOWN = 5


def show_answers(url: str, corpus: Path, store_path: Path, labels: Mapping[int, str]) -> None:
    """An image, a text, an image with its text selected jointly, and activations.

    Concepts are shown by their label, where they have one, else by their number.
    """
    store = ActivationStore.open(store_path, verify=False)
    row_number = int(store.split("test")[0])
    row = store.row(row_number)
    image = base64.b64encode(_image_file(corpus, row.id).read_bytes()).decode()
    text = row.captions[0]
    acts = store.gather(np.array([row_number], np.int64)).acts
    given = {stream.name: acts[stream.name][0].tolist() for stream in store.streams}
    alone = [
        {"id": "an image", "image": image},
        {"id": "a text", "text": text},
        {"id": "activations", "activations": given},
    ]
    together = [{"id": "image + text", "image": image, "text": text}]
    print(f"image {row.id}: {', '.join(row.labels)}\ntext  {text!r}")
    independent = encode(url, alone, "independent")
    joint = encode(url, together, "joint")
    print(f"answers of {independent['dictionary']}:")
    for result in independent["results"]:
        _print_result(result, "independent", labels)
    for result in joint["results"]:
        _print_result(result, "joint", labels)


def encode(url: str, inputs: list[dict[str, Any]], mode: str) -> dict[str, Any]:
    """POST /v1/encode."""
    body = json.dumps({"inputs": inputs, "mode": mode}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/encode", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def _image_file(corpus: Path, row_id: str) -> Path:
    with (corpus / "captions.jsonl").open() as lines:
        for line in lines:
            name = json.loads(line)["image"]
            if row_id in (name, Path(name).stem, Path(name).name):
                return corpus / name
    raise FileNotFoundError(f"no image of row {row_id!r} in {corpus}")


def _print_result(result: dict[str, Any], mode: str, labels: Mapping[int, str]) -> None:
    if "error" in result:
        print(f"  {result['id']}: {result['error']['title']}: {result['error']['detail']}")
        return
    for stream, codes in result["codes"].items():
        strongest = zip(codes["indices"][:TOP_SHOWN], codes["values"][:TOP_SHOWN], strict=True)
        shown = ", ".join(f"{labels.get(c, f'#{c}')} {value:.2f}" for c, value in strongest)
        print(
            f"  {result['id']:13} {mode:11} {stream:11} {len(codes['indices']):3} concepts, "
            f"fvu {codes['fvu']:.2f}   {shown}"
        )
