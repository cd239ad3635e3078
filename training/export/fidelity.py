"""How near one way of computing a stream's codes comes to another; changes no graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from koine.codes import PAD, Codes
from koine.sessions import CPU, Session
from koine.texts import Tokens
from koine.types import ImagesNHWC

SPEED_BATCH = 8
"""Items in a batch that speed is measured on."""
SPEED_ROUNDS = 7
"""Times that each graph runs it, in turns; the median of their ratios counts."""


Batch = UInt8[np.ndarray, "_ H W 3"] | Tokens
"""Prepared items; batches in a row may have different numbers of them."""


def support_jaccard(one: Codes, other: Codes) -> float:
    """|A∩B| / |A∪B| of each item's active concepts, averaged; two empty supports agree."""
    total = 0.0
    for a_K, b_K in zip(one.indices_NK, other.indices_NK, strict=True):
        a, b = set(a_K[a_K != PAD].tolist()), set(b_K[b_K != PAD].tolist())
        total += len(a & b) / len(a | b) if a | b else 1.0
    return total / max(len(one.indices_NK), 1)


def chance_jaccard(one: Codes, other: Codes) -> float:
    """The same for different items, each with the one before it: what chance alone gives."""
    return support_jaccard(one, Codes(*(np.roll(column, 1, axis=0) for column in other)))


def graph_inputs(batch: ImagesNHWC | Tokens) -> dict[str, np.ndarray]:
    """A prepared batch under the names of a backbone's inputs."""
    if isinstance(batch, Tokens):
        return {"input_ids": batch.ids_NT, "attention_mask": batch.mask_NT}
    return {"image": batch}


def graph_acts(graph: Path, batches: Iterable[Batch]) -> Float32[np.ndarray, "M D"]:
    """Activations that a backbone's graph computes on the CPU."""
    session = Session(graph, [CPU])
    return np.concatenate([session.run(graph_inputs(batch))["acts"] for batch in batches])


def speed_ratio(baseline: Path, graph: Path, batch: ImagesNHWC | Tokens, threads: int = 1) -> float:
    """The baseline's time over the graph's for one batch, run in turns; above 1 is faster."""
    inputs = graph_inputs(batch)
    sessions = [Session(path, [CPU], threads=threads) for path in (baseline, graph)]
    for session in sessions:
        session.run(inputs)
    ratios: list[float] = []
    for _ in range(SPEED_ROUNDS):
        before, after = (_seconds(session, inputs) for session in sessions)
        ratios.append(before / after)
    return statistics.median(ratios)


def _seconds(session: Session, inputs: dict[str, np.ndarray]) -> float:
    start = time.perf_counter()
    session.run(inputs)
    return time.perf_counter() - start
