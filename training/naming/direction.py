"""Names from which way a concept points: what a text encoder makes of a term, seen through the
dictionary; needs no items, so terms may be tried that no caption has.

Each term is embedded with a few prompts and gets the selection's scores of a text stream. They
find names better than decoder rows beside the embeddings do (docs/log.md): scores are what decides
whether the concept would fire on the term.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from koine.types import ActsND
from training.encoders.encoder import Encoder
from training.evaluation.encoding import device_of
from training.model import AlignedDictionary

PROMPTS = ("{}", "a photo of {}", "a picture of {}")
BATCH = 64


def embedded(encoder: Encoder, terms: Sequence[str]) -> ActsND:
    """One unit vector a term: the mean over the prompts' unit vectors."""
    total_TD = np.zeros((len(terms), encoder.d_in), np.float32)
    for prompt in PROMPTS:
        for start in range(0, len(terms), BATCH):
            texts = [prompt.format(term) for term in terms[start : start + BATCH]]
            total_TD[start : start + BATCH] += _unit(encoder.activations(encoder.prepare(texts)))
    return _unit(total_TD)


def directions(
    model: AlignedDictionary, stream: str, terms_TD: ActsND
) -> Float32[np.ndarray, "C T"]:
    """How many standard deviations above the other terms' each term's score is, by concept.

    0 throughout for a concept that scores all terms alike.
    """
    scores_TC = np.empty((len(terms_TD), model.config.num_concepts), np.float32)
    device = device_of(model)
    for start in range(0, len(terms_TD), BATCH):
        batch_BD = torch.as_tensor(terms_TD[start : start + BATCH], device=device)
        with torch.no_grad():
            scores_BC = model.scores(stream, model.of(stream).normalise(batch_BD))
        scores_TC[start : start + BATCH] = scores_BC.cpu().numpy()
    return standardised(scores_TC).T


def standardised(scores_TC: Float32[np.ndarray, "T C"]) -> Float32[np.ndarray, "T C"]:
    """Each column less its mean, over its standard deviation."""
    centred_TC = scores_TC - scores_TC.mean(axis=0)
    spread_C = centred_TC.std(axis=0)
    return np.divide(centred_TC, spread_C, out=np.zeros_like(centred_TC), where=spread_C > 1e-6)


def _unit(rows_ND: ActsND) -> ActsND:
    return rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
