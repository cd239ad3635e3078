"""Terms by direction: what a text encoder makes of them, through a dictionary."""

from __future__ import annotations

import numpy as np
import torch

from training.demo.streams import CLIP_TEXT, ENCODERS
from training.encoders.load import load_encoder
from training.model import AlignedDictionary, ModelConfig
from training.naming.direction import BATCH, directions, embedded, standardised


def unit(rows_ND: np.ndarray) -> np.ndarray:
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


def test_planted_directions_are_found() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    terms_TD = unit(rng.normal(size=(BATCH + 40, 64))).astype(np.float32)
    model = AlignedDictionary(ModelConfig(num_concepts=40, k=4), {"text": 64})
    with torch.no_grad():
        model.of("text").encoder_CD.copy_(torch.as_tensor(terms_TD[BATCH:]))
    found_CT = directions(model, "text", terms_TD)
    assert found_CT.argmax(axis=1).tolist() == list(range(BATCH, BATCH + 40))
    assert np.abs(found_CT.mean(axis=1)).max() < 1e-5


def test_a_concept_that_scores_all_terms_alike_points_nowhere() -> None:
    scores_TC = np.array([[1, 2], [1, 4]], np.float32)
    assert standardised(scores_TC).tolist() == [[0, -1], [0, 1]]


def test_embeddings_are_unit_vectors_whatever_the_batch() -> None:
    encoder = load_encoder(CLIP_TEXT, ENCODERS)
    acts_TD = embedded(encoder, ["a circle", "red", *[f"star {i}" for i in range(BATCH)]])
    assert np.allclose(np.linalg.norm(acts_TD, axis=1), 1, atol=1e-5)
    assert np.allclose(acts_TD[:2], embedded(encoder, ["a circle", "red"]), atol=1e-5)
