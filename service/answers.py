"""Codes to the JSON that a client reads, as lists or packed; computes nothing new."""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from koine.codes import PAD
from koine.errors import KoineError
from service.errors import item_error
from service.flow import Answer
from service.jobs import Row
from service.schemas import Options

_SMALLEST, _LARGEST = 2.0**-24, 65504.0
"""The f16 range: an active concept stays above 0 and finite."""
_Codes = dict[str, Any]


def answer_body(
    dictionary: str,
    ids: Sequence[str],
    answers: Sequence[Answer],
    options: Options,
    *,
    num_concepts: int,
    labels: Mapping[int, str],
) -> bytes:
    """The whole answer of `/v1/encode`."""
    results: list[dict[str, Any]] = []
    rows: defaultdict[str, list[tuple[_Codes, Row]]] = defaultdict(list)
    for id_, answer in zip(ids, answers, strict=True):
        if isinstance(answer, KoineError):
            results.append({"id": id_, "error": item_error(answer)})
            continue
        codes: dict[str, _Codes] = {name: {} for name in answer}
        for name, row in answer.items():
            rows[name].append((codes[name], row))
        results.append({"id": id_, "codes": codes})
    for several in rows.values():
        _write_rows(several, options, num_concepts, labels)
    answer = {"dictionary": dictionary, "results": results}
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _write_rows(
    several: Sequence[tuple[_Codes, Row]],
    options: Options,
    num_concepts: int,
    labels: Mapping[int, str],
) -> None:
    """Codes of many items in one stream: one numpy call for all instead of one for each."""
    indices_NK, values_NK = stacked([row for _, row in several], options.top_k)
    if options.encoding == "packed":
        packed = packed_rows(indices_NK, values_NK, num_concepts)
        for (codes, _), data in zip(several, packed, strict=True):
            codes["packed"] = base64.b64encode(data).decode()
    else:
        for (codes, _), indices_K, values_K in zip(several, indices_NK, values_NK, strict=True):
            active_K = indices_K != PAD
            codes["indices"] = indices_K[active_K].tolist()
            # nine digits name every float32; more would be noise
            codes["values"] = [float(f"{value:.9g}") for value in values_K[active_K].tolist()]
    for (codes, row), indices_K in zip(several, indices_NK, strict=True):
        codes["fvu"] = float(f"{row.fvu:.9g}") if math.isfinite(row.fvu) else None
        if options.names:
            codes["names"] = [labels.get(concept) for concept in indices_K.tolist()
                              if concept != PAD]  # fmt: skip


def packed_rows(indices_NK: np.ndarray, values_NK: np.ndarray, num_concepts: int) -> list[bytes]:
    """Of each row little-endian indices (u16; u32 above 65,536 concepts), then f16 values."""
    active_NK = indices_NK != PAD
    width = np.dtype("<u4" if num_concepts > 65_536 else "<u2")
    ones = np.iinfo(width).max
    wide_NK = np.where(active_NK, indices_NK, ones).astype(width)
    half_NK = np.where(active_NK, np.clip(values_NK, _SMALLEST, _LARGEST), 0).astype("<f2")
    return [
        row.tobytes()
        for row in np.concatenate([wide_NK.view(np.uint8), half_NK.view(np.uint8)], axis=1)
    ]


def stacked(
    rows: Sequence[Row], top_k: int | None
) -> tuple[Int32[np.ndarray, "N K"], Float32[np.ndarray, "N K"]]:
    """Indices and values of one stream, everything after the strongest `top_k` padded."""
    indices_NK = np.stack([row.indices_K for row in rows])
    values_NK = np.stack([row.values_K for row in rows])
    if top_k is not None:
        indices_NK[:, top_k:] = PAD
        values_NK[:, top_k:] = 0
    return indices_NK, values_NK
