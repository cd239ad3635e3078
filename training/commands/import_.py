"""`import`: activations that other tools made (.npy, .npz, .h5) → activation store."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from koine.errors import RequestError, SourceError
from training.activations.importing import Fractions, Given, check, import_store, make_plan
from training.activations.matrices import Matrix, open_matrix
from training.commands.extract import positive, report

HELP = "activations in .npy, .npz or .h5 files → activation store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Files and what shapes the store."""
    parser.add_argument(
        "--stream",
        action="append",
        required=True,
        metavar="NAME=FILE[#KEY]",
        help="a stream and its N × width matrix; KEY where a file holds several arrays",
    )
    parser.add_argument("--labels", type=Path, help=".npy, N × labels, 0 or 1")
    parser.add_argument("--label-names", type=Path, help="text file, a name a line")
    parser.add_argument("--ids", type=Path, help="text file, an id a line (default: row numbers)")
    parser.add_argument("--split", default="0.8/0.1/0.1", help="parts for train/val/test")
    parser.add_argument("--out", required=True, type=Path, help="the store")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--shard-size", type=positive, default=65536, help="rows a shard")


def run(args: argparse.Namespace) -> None:
    """Import, or say that it is done already."""
    labels = open_matrix(str(args.labels)) if args.labels else None
    given = Given(
        streams=_streams(args.stream),
        labels=labels,
        label_names=_label_names(labels, args.label_names),
        ids=_lines(args.ids) if args.ids else None,
        fractions=_fractions(args.split),
    )
    check(given)
    plan = make_plan(given, dtype=args.dtype, shard_size=args.shard_size)
    report(import_store(plan, given, args.out), args.out)


def _streams(given: list[str]) -> dict[str, Matrix]:
    streams: dict[str, Matrix] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise RequestError(f"--stream {text!r}: expected NAME=FILE, as in clip=clip.npy.")
        if name in streams:
            raise RequestError(
                f"--stream {name!r} is given twice; every stream needs its own name."
            )
        matrix = open_matrix(file)
        if matrix.dtype.kind != "f":
            raise SourceError(
                f"Stream `{name}` ({file}) holds {matrix.dtype}; activations must be float16,"
                " float32 or float64."
            )
        streams[name] = matrix
    return streams


def _label_names(labels: Matrix | None, file: Path | None) -> list[str]:
    if labels is None:
        if file:
            raise RequestError("--label-names needs --labels.")
        return []
    if file:
        return _lines(file)
    digits = len(str(labels.width - 1))
    return [f"label_{column:0{digits}d}" for column in range(labels.width)]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read: {error}. Give a UTF-8 text file.") from error


def _fractions(text: str) -> Fractions:
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts) < 0 or not np.isclose(sum(parts), 1):
        raise RequestError(f"--split {text!r}: expected three parts that sum to 1: 0.8/0.1/0.1.")
    return Fractions(parts[0], parts[1])
