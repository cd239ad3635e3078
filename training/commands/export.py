"""`export`: run directory → artifact."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.export.build import export
from training.export.precision import PrecisionConfig
from training.export.quantise import CALIBRATIONS
from training.sources import SOURCES

HELP = "export a fitted dictionary to an artifact, if torch and ONNX Runtime agree on it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to export, where to, and under which name."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run directory that `fit` wrote")
    parser.add_argument("--out", type=Path, help="artifact directory; default: RUN/artifact")
    parser.add_argument("--name", help="name of the dictionary; default: the recipe's")
    parser.add_argument("--version", default="1", help="version of the dictionary; default: 1")
    parser.add_argument("--encoders", type=Path, help="folder of encoder weights")
    parser.add_argument("--store", type=Path, help="activation store; default: the run's")
    parser.add_argument("--names", type=Path, help="what `name` wrote; default: RUN/names")
    parser.add_argument(
        "--localisers",
        action="store_true",
        help="also graphs that say where in an image a concept lies: a second copy of the weights",
    )
    add_precision(parser)


def add_precision(parser: argparse.ArgumentParser) -> None:
    """In how many bits, on which items that is measured, and how near it must stay."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="fp16 stores weights in 16 bits, int8 also computes in 8; default: fp32",
    )
    parser.add_argument(
        "--min-jaccard",
        type=float,
        metavar="J",
        help="least overlap of supports with fp32, below which nothing is written; default: .95 "
        "for int8, .99 for fp16",
    )
    parser.add_argument(
        "--calibration",
        choices=CALIBRATIONS,
        default="percentile",
        help="of int8 ranges of convolutions' activations; default: percentile",
    )
    parser.add_argument("--data", type=Path, help="folder that `extract` read; for fp16 and int8")
    parser.add_argument("--source", choices=SOURCES, help="how it is laid out, if not as usual")


def run(args: argparse.Namespace) -> None:
    """Export, and say how far torch and ONNX Runtime were apart."""
    out = args.out or args.run_dir / "artifact"
    exported = export(
        args.run_dir,
        out,
        name=args.name,
        version=args.version,
        encoders=args.encoders,
        store=args.store,
        names=args.names,
        localisers=args.localisers,
        precision=_precision(args),
        data=args.data,
        source=args.source,
    )
    for parity in exported.parity:
        print(
            f"torch = ONNX Runtime: {parity.what}, {parity.items} items, "
            f"apart by {parity.error:.1e}, {parity.ties} ties"
        )
    manifest = exported.artifact.manifest
    for name, figures in (manifest.precision.streams if manifest.precision else {}).items():
        speed = "" if figures.speed is None else f", speed x {figures.speed:.2f}"
        print(
            f"{name}: {figures.method}; support Jaccard {figures.support_jaccard:.3f} to fp32 on "
            f"{figures.items} items, fvu {figures.fvu:.3f} (fp32 {figures.fvu_fp32:.3f}), "
            f"backbone {figures.bytes / 1e6:.1f} MB (fp32 {figures.bytes_fp32 / 1e6:.1f}){speed}"
        )
    size = sum(entry.bytes for entry in manifest.files.values())
    print(f"{out}: {manifest.title}, {len(manifest.files)} files, {size / 1e6:.1f} MB")


def _precision(args: argparse.Namespace) -> PrecisionConfig | None:
    if args.precision == "fp32":
        return None
    return PrecisionConfig(
        kind=args.precision, min_jaccard=args.min_jaccard, calibration=args.calibration
    )
