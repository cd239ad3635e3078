"""`distill`: run directory → run directory whose stream is read by a small student."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.commands.extract import positive
from training.distillation.distill import distill
from training.distillation.student import SHAPES
from training.distillation.teach import TeachConfig
from training.sources import SOURCES

HELP = "teach a small student to stand in for one stream's encoder; the same command resumes"

_DEFAULT = TeachConfig()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stream, the student, and what it learns from."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run directory that `fit` wrote")
    parser.add_argument("--stream", required=True, help="whose encoder is the teacher")
    parser.add_argument("--out", required=True, type=Path, help="run directory to write")
    parser.add_argument("--student", choices=SHAPES, default=_DEFAULT.student, help="its size")
    parser.add_argument("--data", type=Path, help="folder that `extract` read")
    parser.add_argument("--source", choices=SOURCES, help="how it is laid out, if not as usual")
    parser.add_argument("--encoders", type=Path, help="folder of encoder weights")
    parser.add_argument("--store", type=Path, help="activation store; default: the run's")
    parser.add_argument("--steps", type=positive, default=_DEFAULT.steps, help="optimizer steps")
    parser.add_argument("--batch-size", type=positive, default=_DEFAULT.batch_size)
    parser.add_argument("--lr", type=float, default=_DEFAULT.lr, help="peak learning rate")
    parser.add_argument("--items", type=positive, default=_DEFAULT.items, help="at most so many")
    parser.add_argument("--seed", type=int, default=_DEFAULT.seed, help="of weights and draws")
    parser.add_argument(
        "--flip", action="store_true", help="mirror images: where concepts know no left and right"
    )


def run(args: argparse.Namespace) -> None:
    """Distill, and say how near the student comes and what it saves."""
    config = TeachConfig(
        student=args.student,
        steps=args.steps,
        batch_size=args.batch_size,
        lr=args.lr,
        items=args.items,
        seed=args.seed,
        flip=args.flip,
    )
    about = distill(
        args.run_dir,
        args.stream,
        args.out,
        config,
        data=args.data,
        source=args.source,
        encoders=args.encoders,
        store=args.store,
    )
    m = about.metrics
    print(
        f"{args.out}: `{args.stream}` is read by a {about.student} student of "
        f"{about.teacher.name}, {about.parameters:,} parameters (teacher "
        f"{about.parameters_teacher:,}), speed x {m['speed']:.2f}"
    )
    print(
        f"  on {m['items']:.0f} held-out items: support Jaccard {m['support_jaccard']:.3f} "
        f"(chance {m['support_jaccard_chance']:.3f}, adjusted "
        f"{m['support_jaccard_adjusted']:.3f}), recall of the teacher's top 5 "
        f"{m['recall_at_5']:.3f}, cosine {m['cosine']:.3f}"
    )
