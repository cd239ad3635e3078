"""Terms from directions: planted ones are found, hubs are not preferred."""

from __future__ import annotations

import numpy as np

from training.naming.direction import nearest_terms


def unit(rows_ND: np.ndarray) -> np.ndarray:
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


def test_planted_directions_are_named_whatever_all_share() -> None:
    rng = np.random.default_rng(0)
    terms_TD = unit(rng.normal(size=(300, 64)))
    decoder_CD = unit(terms_TD[:40] + 0.5 * unit(rng.normal(size=(40, 64))))
    shift_D = 3 * unit(rng.normal(size=(1, 64)))
    best = nearest_terms(
        decoder_CD.astype(np.float32), (terms_TD + shift_D).astype(np.float32), most=2
    )
    assert best.terms_CM[:, 0].tolist() == list(range(40))
    assert (best.scores_CM[:, 0] > best.scores_CM[:, 1]).all()


def test_a_hub_wins_only_where_it_is_meant() -> None:
    rng = np.random.default_rng(0)
    own_CD = unit(rng.normal(size=(60, 64)))
    hub_D = unit(rng.normal(size=(1, 64)))[0]
    decoder_CD = unit(0.6 * own_CD + 0.8 * hub_D * (rng.random((60, 1)) < 0.5))
    terms_TD = np.concatenate([unit(own_CD + 1.2 * unit(rng.normal(size=(60, 64)))), hub_D[None]])
    best = nearest_terms(decoder_CD.astype(np.float32), terms_TD.astype(np.float32))
    right = (best.terms_CM[:, 0] == np.arange(60)).mean()
    plain = (unit(decoder_CD - decoder_CD.mean(0)) @ unit(terms_TD - terms_TD.mean(0)).T).argmax(1)
    assert right > (plain == np.arange(60)).mean()
    assert right > 0.8
