"""Trains the demo's encoders and measures them: `python -m training.demo.pretrain --out DIR`.

The corpus has another seed than the one that the demo aligns. The same command on the same
processor gives the same weights; another processor rounds otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from open_clip.model import CLIP
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.demo import clip, vision
from training.demo.quality import activations, probe, retrieval
from training.demo.shots import Shots, take_shots
from training.demo.streams import ENCODERS

TRAIN_SEED, HELD_OUT_SEED = 101, 202
HELD_OUT, PROBE_TRAIN, RETRIEVED = 4000, 3000, 500
UNTRAINED_SEED = 9
CLIP_BATCH, VISION_BATCH = 256, 192


def main() -> None:
    """Parse, train both, save, measure beside untrained controls, write `quality.json`."""
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    shots = take_shots(args.images, TRAIN_SEED)
    started = time.monotonic()
    model, tokenizer = clip.train_clip(
        shots, steps=args.clip_steps, batch=CLIP_BATCH, seed=args.seed
    )
    clip_s = time.monotonic() - started
    clip.save_clip(model, tokenizer, args.out / "clip")
    started = time.monotonic()
    seer = vision.train_vision(shots, steps=args.vision_steps, batch=VISION_BATCH, seed=args.seed)
    vision_s = time.monotonic() - started
    vision.save_vision(seer, args.out / "vision")
    report = {
        "images": args.images,
        "seed": args.seed,
        "threads": args.threads,
        "clip": {
            "steps": args.clip_steps,
            "batch": CLIP_BATCH,
            "seconds": round(clip_s),
        },
        "vision": {
            "steps": args.vision_steps,
            "batch": VISION_BATCH,
            "seconds": round(vision_s),
        },
        "trained": measure(model, tokenizer, seer),
        "untrained": _untrained(tokenizer),
    }
    text = json.dumps(report, indent=1) + "\n"
    (args.out / "quality.json").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def measure(model: CLIP, tokenizer: Tokenizer, seer: nn.Module) -> dict[str, object]:
    """Probes and retrieval on held-out scenes, rounded to three digits."""
    held = take_shots(HELD_OUT, HELD_OUT_SEED)
    images_ND, texts_ND = encode_pair(model, tokenizer, held)
    seen_ND = activations(lambda part: seer(clip.pixels(part)), held.images_NHWC)
    found = {
        "image_to_text": retrieval(images_ND[:RETRIEVED], texts_ND[:RETRIEVED])._asdict(),
        "text_to_image": retrieval(texts_ND[:RETRIEVED], images_ND[:RETRIEVED])._asdict(),
        "probe_clip_image": probe(images_ND, held.labels_NL, PROBE_TRAIN),
        "probe_clip_text": probe(texts_ND, held.labels_NL, PROBE_TRAIN),
        "probe_vision": probe(seen_ND, held.labels_NL, PROBE_TRAIN),
    }
    return {
        name: {key: round(value, 3) for key, value in part.items()} for name, part in found.items()
    }


def encode_pair(model: CLIP, tokenizer: Tokenizer, shots: Shots) -> tuple[Tensor, Tensor]:
    """Activations of all images and of the first caption of each."""
    first = [captions[0] for captions in shots.captions]
    return (
        activations(lambda part: model.encode_image(clip.pixels(part)), shots.images_NHWC),
        activations(model.encode_text, clip.tokenize(tokenizer, first)),
    )


def _untrained(tokenizer: Tokenizer) -> dict[str, object]:
    torch.manual_seed(UNTRAINED_SEED)
    pair = clip.make_model(tokenizer).eval()
    return measure(pair, tokenizer, vision.make_model(UNTRAINED_SEED).eval())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ENCODERS, help="folder for clip/ and vision/")
    parser.add_argument("--images", type=int, default=24_000, help="scenes to train on")
    parser.add_argument("--clip-steps", type=int, default=1000)
    parser.add_argument("--vision-steps", type=int, default=700)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
