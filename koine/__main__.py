"""`python -m koine <command>`: artifacts, codes, labels and the audit log, without a service.

Exit 0: done; 2: bad usage or input, a damaged artifact; 1: any other failure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from koine.artifact import Artifact
from koine.audit.commands import add_audit
from koine.drift.commands import add_drift
from koine.errors import (
    ArtifactError,
    ConflictError,
    EncoderError,
    InputError,
    KoineError,
    LabelsError,
)
from koine.labels.commands import add_labels
from koine.manifest import PROFILE, ArtifactStream, Manifest
from koine.profile import StreamProfile, read_profile
from koine.vectors import STORES, WEIGHTINGS

USAGE_ERRORS = (InputError, ArtifactError, EncoderError, LabelsError, ConflictError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    args = _parser().parse_args(arguments)
    try:
        return args.run(args)
    except KoineError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 2 if isinstance(error, USAGE_ERRORS) else 1
    except OSError as error:
        print(f"The system refused: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def inspect(args: argparse.Namespace) -> int:
    """Prints what the artifact says of itself."""
    artifact = Artifact.open(args.artifact, verify=False)
    manifest = artifact.manifest
    profile = read_profile(artifact.file(PROFILE))
    print("\n".join(_description(manifest, profile.streams)))
    print(f"digest       sha256:{artifact.digest}")
    if artifact.source:
        print(f"from         {artifact.source}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Checks every byte, and that every graph loads and runs."""
    from koine.encoder import ConceptEncoder

    artifact = Artifact.open(args.artifact)
    encoder = ConceptEncoder(artifact)
    encoder.warm_up()
    files = artifact.manifest.files
    print(
        f"{args.artifact}: {artifact.manifest.title} is whole: {len(files)} files, "
        f"{sum(entry.bytes for entry in files.values()):,} bytes, "
        f"every graph runs on {encoder.provider}"
    )
    return 0


def encode(args: argparse.Namespace) -> int:
    """Files to a Parquet table of codes."""
    from koine.encoder import ConceptEncoder
    from koine.offline import encode_files

    encoder = ConceptEncoder(Artifact.open(args.artifact), threads=args.threads)
    streams = cast("list[str] | None", args.stream)
    counts = encode_files(encoder, args.files, args.out, streams=streams, mode=args.mode)
    print(f"{args.out}: {counts.encoded} items encoded, {counts.failed} not (column `error`)")
    return 0 if counts.encoded or not counts.failed else 2


def vectors(args: argparse.Namespace) -> int:
    """A Parquet table of codes to what a vector store reads."""
    from koine.vector_files import write_vectors

    artifact = Artifact.open(args.artifact, verify=False)
    written = write_vectors(artifact, args.codes, args.out, args.store, args.weighting)
    print(f"{args.out}: {written.items} items for {args.store}, {written.failed} without codes")
    return 0


def push(args: argparse.Namespace) -> int:
    """An artifact, every byte checked, to the hub."""
    from koine import hub

    artifact = Artifact.open(args.artifact)
    pinned = hub.push(artifact.path, artifact.manifest.files, args.place, public=args.public)
    print(f"{pinned}: {artifact.manifest.title}, digest sha256:{artifact.digest}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m koine", description="Use an artifact without a service."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(commands, "inspect", inspect, "print what an artifact holds")
    _command(commands, "verify", verify, "check every file of an artifact and run every graph")
    encoding = _command(commands, "encode", encode, "encode images and texts into a Parquet table")
    encoding.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="images, and .txt with a text per line"
    )
    encoding.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    encoding.add_argument("--stream", action="append", help="only this stream; may be repeated")
    encoding.add_argument("--mode", choices=("independent", "joint"), default="independent")
    encoding.add_argument("--threads", type=int, default=0, help="per graph; 0: all cores")
    add_drift(commands)
    writing = _command(
        commands, "vectors", vectors, "turn a table of codes into sparse vectors for a vector store"
    )
    writing.add_argument("codes", type=Path, metavar="CODES", help="Parquet that `encode` wrote")
    writing.add_argument(
        "--for", choices=STORES, required=True, dest="store", help="which reads it"
    )
    writing.add_argument("--out", type=Path, required=True, help="file to write")
    writing.add_argument(
        "--weighting",
        choices=WEIGHTINGS,
        default=WEIGHTINGS[0],
        help="l2: values brought to norm 1; idf: rare concepts first count more; raw: as they are",
    )
    pushing = _command(commands, "push", push, "upload an artifact to the Hugging Face hub")
    pushing.add_argument("place", metavar="hf://OWNER/NAME[@BRANCH]", help="made where it is not")
    pushing.add_argument(
        "--public", action="store_true", help="a repository that is made is open to everybody"
    )
    add_labels(commands, _command)
    add_audit(commands.add_parser("audit", help="verify, export and reproduce the audit log"))
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument(
        "artifact", metavar="ARTIFACT", help="artifact directory, or hf://owner/name[@revision]"
    )
    parser.set_defaults(run=run)
    return parser


def _description(manifest: Manifest, profile: Mapping[str, StreamProfile]) -> list[str]:
    known = manifest.training
    selection = manifest.selection
    lines = [
        f"dictionary   {manifest.title}, method {manifest.method}",
        f"concepts     {manifest.num_concepts:,}, at most {manifest.k} active per item and stream",
        f"selection    independent: {selection.independent}; joint: {selection.joint}",
        f"created      {manifest.created.isoformat()}",
        f"trained      recipe {known.recipe or '-'}, seed {known.seed}, {known.steps} steps, "
        f"commit {(known.commit or '-')[:12]}",
        f"files        {len(manifest.files)}, "
        f"{sum(entry.bytes for entry in manifest.files.values()) / 1e6:.1f} MB",
        "streams",
    ]
    for stream in manifest.streams:
        lines.append(_stream_line(stream, profile[stream.spec.name]))
    if manifest.metrics:
        lines.append("figures")
        lines += [f"  {name:44} {value:.4g}" for name, value in manifest.metrics.items()]
    return lines


def _stream_line(stream: ArtifactStream, profile: StreamProfile) -> str:
    spec = stream.spec
    encoder = f"{spec.encoder.kind} {spec.encoder.name}" if spec.encoder else "activations only"
    fires = int((profile.rates_C > 0).sum())
    return (
        f"  {spec.name:16} {spec.modality:6} {spec.d_in:5} wide  {encoder}; "
        f"{fires:,} concepts fire on {profile.items:,} training items"
    )


if __name__ == "__main__":
    sys.exit(main())
