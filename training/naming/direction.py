"""Names from which way a concept points: its decoder vector against embeddings of the vocabulary.

For streams whose encoder reads text, or shares a space with one that does. Known items are not
needed, so terms may be tried that no caption has.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from training.naming.firing import Best


def nearest_terms(
    decoder_CD: Float32[np.ndarray, "C D"],
    terms_TD: Float32[np.ndarray, "T D"],
    most: int = 5,
) -> Best:
    """The terms nearest to each concept by cosine, both without what all of their kind share.

    `terms_TD`: embeddings. A few terms lie near every direction, as a few concepts lie near every
    term (hubs); each cosine is taken relative to those of the term's and the concept's own nearest
    (CSLS, Conneau et al. 2018), which leaves them no advantage.
    """
    cosine_CT = _centred(decoder_CD) @ _centred(terms_TD).T
    relative_CT = 2 * cosine_CT - _near(cosine_CT)[:, None] - _near(cosine_CT.T)[None, :]
    most = min(most, len(terms_TD))
    best_CM = np.argsort(-relative_CT, axis=1, kind="stable")[:, :most]
    return Best(best_CM, np.take_along_axis(cosine_CT, best_CM, axis=1).astype(np.float32))


def _centred(rows_ND: np.ndarray) -> np.ndarray:
    rows_ND = rows_ND - rows_ND.mean(axis=0)
    length_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return rows_ND / np.maximum(length_N, 1e-12)


def _near(cosine_NM: np.ndarray, count: int = 10) -> np.ndarray:
    count = min(count, cosine_NM.shape[1])
    return np.partition(cosine_NM, -count, axis=1)[:, -count:].mean(axis=1)
