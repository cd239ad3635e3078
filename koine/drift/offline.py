"""Profiles from what lies on disk: an artifact, a profile's file, or a Parquet table of codes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from koine.artifact import Artifact
from koine.codes import PAD, Codes
from koine.drift.cofiring import cofiring_of
from koine.drift.means import MeanCounts
from koine.errors import RequestError
from koine.manifest import PROFILE, Manifest
from koine.profile import Profile, StreamProfile, jaccard, read_profile

_NEEDED = ("id", "stream", "indices", "values", "fvu")


def load_profile(path: Path, artifact: Artifact | None) -> Profile:
    """The profile of an artifact, of a profile's file, or of codes that `encode` wrote.

    `artifact` made the codes. Equal items (an id's codes in every stream) are counted once. A
    column `block` says which items came together; without it each stands alone. Raises
    `RequestError` or `ArtifactError`.
    """
    if path.is_dir():
        found = Artifact.open(path, verify=False)
        return read_profile(found.file(PROFILE))
    if not path.is_file():
        raise RequestError(f"there is nothing at {path}; give an artifact, a profile or codes")
    if path.suffix != ".parquet":
        return read_profile(path)
    if artifact is None:
        raise RequestError(
            f"{path} holds codes, which do not say of which dictionary; give it by --artifact"
        )
    return _profile_codes(path, artifact.manifest, read_profile(artifact.file(PROFILE)))


def _profile_codes(path: Path, manifest: Manifest, reference: Profile) -> Profile:
    table = _read(path)
    codes: dict[str, tuple[list[str], Codes]] = {}
    for stream in manifest.streams:
        name = stream.spec.name
        rows = [row for row in table if row["stream"] == name]
        codes[name] = ([row["id"] for row in rows], _codes(path, rows, manifest))
    blocks = {row["id"]: row.get("block", row["id"]) for row in table}
    kept = _different(codes)
    streams: dict[str, StreamProfile] = {}
    for name, (ids, own) in codes.items():
        at = [n for n, id_ in enumerate(ids) if id_ in kept]
        numbers = _numbers([blocks[ids[n]] for n in at])
        part = Codes(*(rows[at] for rows in own))
        found = StreamProfile.of(part, numbers, manifest.num_concepts)
        if known := reference.streams[name].cofiring:
            found = replace(found, cofiring=cofiring_of(part.indices_NK, numbers, known.top_T))
        streams[name] = found
    pairs = {
        f"{a}|{b}": _agreement(codes[a], codes[b], kept, blocks) for a, b in combinations(codes, 2)
    }
    return Profile(manifest.title, streams, pairs)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise RequestError(
            "reading Parquet needs pyarrow, which the serving environment leaves out: pip install "
            "pyarrow, or run this in the environment of `make setup`"
        ) from None
    try:
        table: Any = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as Parquet: {error}") from error
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise RequestError(
            f"{path} lacks the columns {', '.join(missing)}; give a table that `python -m koine "
            "encode` wrote"
        )
    return [row for row in table.to_pylist() if row["stream"] is not None]


def _codes(path: Path, rows: list[dict[str, Any]], manifest: Manifest) -> Codes:
    indices_NK = np.full((len(rows), manifest.k), PAD, np.int32)
    values_NK = np.zeros((len(rows), manifest.k), np.float32)
    for n, row in enumerate(rows):
        count = len(row["indices"])
        if count > manifest.k or any(not 0 <= c < manifest.num_concepts for c in row["indices"]):
            raise RequestError(
                f"{path}, item {row['id']!r}: its concepts are not of {manifest.title}, which has "
                f"{manifest.num_concepts} and activates at most {manifest.k}; give the artifact "
                "that made the codes"
            )
        indices_NK[n, :count] = row["indices"]
        values_NK[n, :count] = row["values"]
    return Codes(indices_NK, values_NK, np.array([row["fvu"] for row in rows], np.float32))


def _different(codes: Mapping[str, tuple[list[str], Codes]]) -> set[str]:
    """Ids of items that no earlier item equals."""
    known: dict[str, list[bytes]] = {}
    for ids, own in codes.values():
        for n, id_ in enumerate(ids):
            known.setdefault(id_, []).append(
                own.indices_NK[n].tobytes() + own.values_NK[n].tobytes()
            )
    first: dict[bytes, str] = {}
    for id_, parts in known.items():
        first.setdefault(b"|".join(parts), id_)
    return set(first.values())


def _agreement(
    a: tuple[list[str], Codes],
    b: tuple[list[str], Codes],
    kept: set[str],
    blocks: Mapping[str, Any],
) -> MeanCounts:
    place = {id_: n for n, id_ in enumerate(b[0])}
    both = [(n, place[id_]) for n, id_ in enumerate(a[0]) if id_ in place and id_ in kept]
    if not both:
        return MeanCounts()
    at_a, at_b = zip(*both, strict=True)
    agree_N = jaccard(
        Codes(*(rows[list(at_a)] for rows in a[1])), Codes(*(rows[list(at_b)] for rows in b[1]))
    )
    return MeanCounts.of(agree_N, _numbers([blocks[a[0][n]] for n in at_a]))


def _numbers(names: list[Any]) -> np.ndarray:
    number: dict[Any, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in names], np.int64)
