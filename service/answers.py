"""Codes to the JSON that a client reads, as lists or packed; computes nothing new."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from koine.codes import PAD
from koine.errors import KoineError
from service.errors import item_error
from service.flow import Answer
from service.jobs import Row
from service.schemas import Options

_SMALLEST, _LARGEST = 2.0**-24, 65504.0
"""The f16 range: an active concept stays above 0 and finite."""


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
    for id_, answer in zip(ids, answers, strict=True):
        if isinstance(answer, KoineError):
            results.append({"id": id_, "error": item_error(answer)})
            continue
        rows = {name: strongest(row, options.top_k) for name, row in answer.items()}
        if options.encoding == "packed":
            codes = {name: _packed(row, num_concepts) for name, row in rows.items()}
        else:
            codes = {name: _listed(row) for name, row in rows.items()}
        if options.names:
            for name, row in rows.items():
                codes[name]["names"] = [labels.get(int(c)) for c in row.active_K]
        results.append({"id": id_, "codes": codes})
    answer = {"dictionary": dictionary, "results": results}
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def packed_bytes(row: Row, num_concepts: int) -> bytes:
    """Little-endian indices (u16; u32 above 65,536 concepts), then f16 values."""
    return packed_rows(row.indices_K[None], row.values_K[None], num_concepts)[0]


def packed_rows(indices_NK: np.ndarray, values_NK: np.ndarray, num_concepts: int) -> list[bytes]:
    """The same of every row, at less than the cost of one call for each."""
    active_NK = indices_NK != PAD
    width = np.dtype("<u4" if num_concepts > 65_536 else "<u2")
    ones = np.iinfo(width).max
    wide_NK = np.where(active_NK, indices_NK, ones).astype(width)
    half_NK = np.where(active_NK, np.clip(values_NK, _SMALLEST, _LARGEST), 0).astype("<f2")
    return [
        row.tobytes()
        for row in np.concatenate([wide_NK.view(np.uint8), half_NK.view(np.uint8)], axis=1)
    ]


def strongest(row: Row, top_k: int | None) -> Row:
    """A row with everything after the strongest `top_k` padded; its width stays."""
    if top_k is None or top_k >= len(row.indices_K):
        return row
    kept_K = np.arange(len(row.indices_K)) < top_k
    return Row(
        np.where(kept_K, row.indices_K, np.int32(PAD)),
        np.where(kept_K, row.values_K, np.float32(0)),
        row.fvu,
    )


def _listed(row: Row) -> dict[str, Any]:
    active_K = row.indices_K != PAD
    return {
        "indices": row.indices_K[active_K].tolist(),
        # nine digits name every float32; more would be noise
        "values": [float(f"{value:.9g}") for value in row.values_K[active_K].tolist()],
        "fvu": _finite(row.fvu),
    }


def _packed(row: Row, num_concepts: int) -> dict[str, Any]:
    packed = base64.b64encode(packed_bytes(row, num_concepts)).decode()
    return {"packed": packed, "fvu": _finite(row.fvu)}


def _finite(fvu: float) -> float | None:
    return float(f"{fvu:.9g}") if math.isfinite(fvu) else None
