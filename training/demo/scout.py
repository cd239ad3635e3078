"""Trains the encoder that joins the demo's dictionary: `python -m training.demo.scout --out DIR`.

As `vision` is trained, but narrower, from another seed and on other scenes. The same command on
the same processor gives the same weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from training.demo.clip import pixels
from training.demo.pretrain import HELD_OUT, HELD_OUT_SEED, PROBE_TRAIN, VISION_BATCH
from training.demo.quality import activations, probe
from training.demo.shots import take_shots
from training.demo.streams import ENCODERS, SCOUT
from training.demo.vision import make_model, save_vision, train_vision

TRAIN_SEED = 303


def main() -> None:
    """Train, save, and write the probes beside an untrained control's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ENCODERS, help="folder for scout/")
    parser.add_argument("--images", type=int, default=8000, help="scenes to train on")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    shots = take_shots(args.images, TRAIN_SEED)
    started = time.monotonic()
    model = train_vision(shots, steps=args.steps, batch=VISION_BATCH, seed=args.seed, config=SCOUT)
    report = {
        "images": args.images,
        "seed": args.seed,
        "steps": args.steps,
        "batch": VISION_BATCH,
        "seconds": round(time.monotonic() - started),
    }
    save_vision(model, args.out / "scout")
    held = take_shots(HELD_OUT, HELD_OUT_SEED)
    for name, seer in (("trained", model), ("untrained", make_model(args.seed, SCOUT).eval())):
        acts_ND = activations(lambda part, seer=seer: seer(pixels(part)), held.images_NHWC)
        areas = probe(acts_ND, held.labels_NL, PROBE_TRAIN)
        report[name] = {group: round(value, 3) for group, value in areas.items()}
    text = json.dumps(report, indent=1) + "\n"
    (args.out / "scout" / "quality.json").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
