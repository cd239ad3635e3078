"""The objective against plain loops over items, streams and pairs."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.training.test_model import WIDTHS, make_acts, make_model
from training.configs import SPARC_AS_PUBLISHED, FitConfig
from training.dead import DeadLatents
from training.losses import Forward, forward, losses
from training.model import AlignedDictionary, TopK

KOINE = FitConfig(num_concepts=12, k=3, auxk=4)
SPARC = dataclasses.replace(FitConfig(num_concepts=12, k=3), **(SPARC_AS_PUBLISHED | {"auxk": 4}))

EVERY_NS = torch.ones(7, 3, dtype=torch.bool)


def run_forward(model: AlignedDictionary) -> Forward:
    return forward(model, make_acts(), EVERY_NS, EVERY_NS)


def recon(model: AlignedDictionary, codes: TopK, target: str, row: int) -> torch.Tensor:
    stream = model.of(target)
    z_D = stream.pre_bias_D.clone()
    for c, v in zip(codes.indices_NK[row], codes.values_NK[row], strict=True):
        z_D = z_D + v * stream.dictionary_CD[c]
    return z_D


@pytest.mark.parametrize("config", [KOINE, SPARC], ids=["koine", "sparc"])
@torch.no_grad()
def test_self_and_cross_terms(config: FitConfig) -> None:
    model = make_model()
    out = run_forward(model)
    present_NS = torch.ones(7, 3, dtype=torch.bool)
    present_NS[0, 1] = present_NS[3, 2] = False
    got = losses(model, out, present_NS, None, config)
    terms: dict[tuple[str, str], float] = {}
    for i, s in enumerate(WIDTHS):
        for j, t in enumerate(WIDTHS):
            errors = []
            for row in range(7):
                if not (present_NS[row, i] and present_NS[row, j]):
                    continue
                error = (recon(model, out.codes[s], t, row) - out.z[t][row]).square().sum()
                scale = out.z[t][row].square().sum() if config.method == "sparc" else 1.0
                errors.append(float(error / scale))
            terms[s, t] = sum(errors) / len(errors)
    self_ = sum(v for (s, t), v in terms.items() if s == t) / 3
    cross = sum(v for (s, t), v in terms.items() if s != t) / 6
    assert got.self_.item() == pytest.approx(self_, rel=1e-5)
    assert got.cross.item() == pytest.approx(cross, rel=1e-5)
    assert got.total.item() == pytest.approx(self_ + cross, rel=1e-5)


def test_sparc_auxk_with_nothing_dead_moves_only_the_pre_bias() -> None:
    """Published behaviour: the loss is near 1, and it still pulls on the pre-bias."""
    model = make_model()
    with torch.no_grad():
        for name in WIDTHS:
            model.of(name).pre_bias_D.zero_()
    config = dataclasses.replace(SPARC, cross_weight=0.0)
    none_dead = torch.zeros(3, 12, dtype=torch.bool)
    got = losses(model, run_forward(model), torch.ones(7, 3, dtype=torch.bool), none_dead, config)
    assert got.auxk.item() == pytest.approx(1.0)
    got.auxk.backward()
    grad = model.of("image").pre_bias_D.grad
    assert grad is not None
    assert grad.abs().sum() > 0


def test_auxk_reaches_dead_latents_only() -> None:
    model = make_model()
    dead_SC = torch.zeros(3, 12, dtype=torch.bool)
    dead_SC[:, [2, 5, 7]] = True
    got = losses(model, run_forward(model), torch.ones(7, 3, dtype=torch.bool), dead_SC, KOINE)
    got.auxk.backward()
    for name in WIDTHS:
        grad = model.of(name).encoder_CD.grad
        assert grad is not None
        moved = grad.abs().sum(1) > 0
        assert moved[[2, 5, 7]].any()
        assert not moved[~dead_SC[0]].any()


def test_auxk_ignores_everything_when_nothing_is_dead() -> None:
    model = make_model()
    none_dead = torch.zeros(3, 12, dtype=torch.bool)
    got = losses(model, run_forward(model), torch.ones(7, 3, dtype=torch.bool), none_dead, KOINE)
    assert got.auxk.item() == pytest.approx(1.0)  # nothing reconstructs the residual
    got.auxk.backward()
    assert all(p.grad is None or not p.grad.abs().any() for p in model.parameters())


def test_selecting_stream_decides_the_support_of_all() -> None:
    model, acts = make_model(), make_acts()
    selecting_NS = torch.zeros(7, 3, dtype=torch.bool)
    selecting_NS[:, 1] = True
    out = forward(model, acts, selecting_NS, torch.ones_like(selecting_NS))
    alone = model.encode({"text": acts["text"]}, "independent")["text"]
    for name in WIDTHS:
        assert torch.equal(
            out.codes[name].indices_NK.sort(1).values, alone.indices_NK.sort(1).values
        )


def test_dead_latents_count_steps_without_firing() -> None:
    config = dataclasses.replace(KOINE, dead_after=2)
    dead = DeadLatents(("a", "b"), config, torch.device("cpu"))
    fires = {
        "a": TopK(torch.tensor([[0, 1, 2]]), torch.tensor([[1.0, 0.5, 0.0]])),
        "b": TopK(torch.tensor([[0, 1, 2]]), torch.tensor([[1.0, 5e-4, 0.0]])),
    }
    for _ in range(3):
        dead.update(fires, torch.tensor([True]))
    dead.update(fires, torch.tensor([False]))  # an item that does not count fires nothing
    assert dead.idle_steps_SC[0, 0] == 1
    assert dead.mask()[0].tolist() == [False, False] + [True] * 10
    assert dead.mask()[1].tolist() == [False] + [True] * 11  # 5e-4 does not count as firing


def test_reinitialise_resets_rows_biases_and_counters() -> None:
    model = make_model()
    config = dataclasses.replace(SPARC, dead_after=1)
    dead = DeadLatents(model.streams, config, torch.device("cpu"))
    dead.idle_steps_SC[0, 4] = 9
    before = model.of("image").encoder_CD.detach().clone()
    dead.reinitialise(model, step=100)
    after = model.of("image").encoder_CD.detach()
    assert torch.equal(after[:4], before[:4])
    assert 0 < after[4].norm() < 0.1
    assert model.of("image").latent_bias_C[4] == 0
    assert dead.idle_steps_SC[0, 4] == 0
