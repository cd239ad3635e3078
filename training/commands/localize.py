"""`localize`: where in an image a concept lies, by the artifact's own graphs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from koine.artifact import Artifact
from koine.concepts import read_concepts
from koine.encoder import ConceptEncoder
from koine.errors import RequestError
from koine.finding import Finder, Found
from koine.images import decode_image, preprocess_image
from koine.localisation import Localisers, check_concept, overlay
from koine.manifest import CONCEPTS
from koine.sessions import CPU

HELP = "show where in an image a concept lies, as an overlay, an array and JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The artifact, the image, and the concept by its id or by a text; or what to score on."""
    parser.add_argument(
        "place", type=Path, metavar="ARTIFACT|RUN", help="that `export` wrote; to score, a run"
    )
    parser.add_argument("--image", type=Path, help="image file")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--text", help="what to look for; matched with the concepts' labels")
    asked.add_argument("--concept", type=int, help="a concept's id")
    asked.add_argument("--score", type=Path, metavar="CORPUS", help="demo corpus with masks")
    parser.add_argument("--images", type=int, default=400, help="test images to score on")
    parser.add_argument("--stream", help="image stream; default: the first that can")
    parser.add_argument("--out", type=Path, required=True, help="directory to write to")


def run(args: argparse.Namespace) -> None:
    """One image's heat, or the score of every method."""
    if args.score is not None:
        _score(args)
    elif args.image is None:
        raise RequestError("nothing to look at; give an image file by --image")
    else:
        _localise(args)


def _score(args: argparse.Namespace) -> None:
    """Print each method's figures and write them to `score.json`."""
    from training.localisation.score import score_run  # torch takes seconds to import

    if args.images < 2:
        raise RequestError(f"--images must be 2 or more, got {args.images}")
    scores = score_run(args.place, args.score, args.images)
    for method, score in scores.items():
        print(
            f"{method:36} mIoU {score.miou:.3f}  AP@0.2 {score.ap20:.3f}  pointing "
            f"{score.pointing:.3f}  threshold {score.threshold:.2f}  {score.pairs} pairs"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({method: score._asdict() for method, score in scores.items()}, indent=1)
    (args.out / "score.json").write_text(text + "\n", encoding="utf-8")


def _localise(args: argparse.Namespace) -> None:
    """Write `overlay.png`, `heat.npy` and `localised.json`, and say where it is hottest."""
    artifact = Artifact.open(args.place)
    localisers = Localisers(artifact, [CPU])
    stream = localisers.choose(args.stream)
    spec = localisers.spec(stream)
    concepts = read_concepts(artifact.file(CONCEPTS))
    found: Found | None = None
    if args.text is not None:
        finder = Finder(ConceptEncoder(artifact, providers=[CPU]))
        found = finder.find(args.text, concepts, stream)
        concept = found.concept
    else:
        check_concept(args.concept, len(concepts))
        concept = concepts[args.concept]
    image = decode_image(args.image.read_bytes())
    patches_NPD = localisers.patches(stream, preprocess_image(image, spec)[None])
    shown = localisers.localise(stream, patches_NPD[0], concept.id, image.size)
    args.out.mkdir(parents=True, exist_ok=True)
    overlay(image, shown.heat_HW).save(args.out / "overlay.png")
    np.save(args.out / "heat.npy", shown.heat_HW)
    height, width = shown.heat_HW.shape
    facts = {
        "dictionary": artifact.manifest.title,
        "concept": {"id": concept.id, "label": concept.label, "status": concept.status},
        "by": "id" if found is None else found.by,
        "score": None if found is None else found.score,
        "stream": stream,
        "height": height,
        "width": width,
        "grid": shown.grid_GG.tolist(),
    }
    (args.out / "localised.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    row, column = np.unravel_index(int(np.nanargmax(shown.heat_HW)), shown.heat_HW.shape)
    name = concept.label or f"concept {concept.id}"
    print(f"{name} in {stream}: hottest at x {column}, y {row} of {width}×{height}; {args.out}")
