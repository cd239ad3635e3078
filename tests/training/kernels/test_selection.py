"""Selection in pieces against one dense sum and torch.topk."""

from __future__ import annotations

import pytest
import torch

from training.kernels import cpu, selection
from training.kernels.pool import Buffers
from training.kernels.selection import Scorer, largest_own_and_joint, largest_sums


@pytest.mark.parametrize(
    ("concepts", "k"), [(1, 1), (7, 7), (50, 4), (1000, 600), (131_072, 64), (999, 1)]
)
def test_largest_are_torch_topk(concepts: int, k: int) -> None:
    torch.manual_seed(0)
    scores_NC = torch.randn(19, concepts)
    got = cpu.largest(scores_NC, k).sort(1).values
    assert torch.equal(got, scores_NC.topk(k, dim=1).indices.sort(1).values)


def test_ties_give_distinct_indices() -> None:
    scores_NC = torch.zeros(3, 40)
    scores_NC[:, 30] = 1
    scores_NC[1] = -torch.inf
    for row in cpu.largest(scores_NC, 5).tolist():
        assert len(set(row)) == 5
    assert set(cpu.largest(scores_NC, 5)[0].tolist()) == {0, 1, 2, 3, 30}


def test_a_row_of_nan_selects_indices_in_range() -> None:
    scores_NC = torch.full((2, 40), torch.nan)
    scores_NC[1, :20] = 1.0
    assert all(len(set(row)) == 5 for row in cpu.largest(scores_NC, 5).tolist())
    assert cpu.largest(scores_NC, 5).max() < 40


@pytest.mark.parametrize("pieces", [1, 4])
def test_sums_run_over_the_selecting_streams(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    items, concepts = 50, 40
    monkeypatch.setattr(selection, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(selection, "_SCORES_AT_ONCE", items * concepts // pieces)
    scorers = [
        Scorer(torch.randn(items, d), torch.randn(concepts, d), torch.randn(concepts))
        for d in (9, 6, 5)
    ]
    selecting_NS = torch.rand(items, 3) < 0.5
    selecting_NS[:, 0] |= ~selecting_NS.any(1)
    got_NK = largest_sums(scorers, selecting_NS, 6)
    scores_SNC = torch.stack([x @ w.T + b for x, w, b in scorers])
    summed_NC = (scores_SNC * selecting_NS.T[:, :, None]).sum(0)
    assert torch.equal(got_NK.sort(1).values, summed_NC.topk(6, dim=1).indices.sort(1).values)


def test_bf16_autocast_ranks_nearly_the_same() -> None:
    torch.manual_seed(0)
    scorer = Scorer(torch.randn(30, 16), torch.randn(200, 16), torch.zeros(200))
    selecting_NS = torch.ones(30, 1, dtype=torch.bool)
    exact_NK = largest_sums([scorer], selecting_NS, 20)
    with torch.autocast("cpu", torch.bfloat16):
        rough_NK = largest_sums([scorer], selecting_NS, 20)
    shared_N = (exact_NK[:, :, None] == rough_NK[:, None]).any(2).float().mean(1)
    assert shared_N.mean() > 0.9  # bf16 keeps 8 bits: only neighbours of the cut change sides


@pytest.mark.parametrize("aligned", [False, True])
def test_rounded_scores_name_what_exact_sums_decide(
    aligned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where all rows share a large common direction, so that sums cancel."""
    torch.manual_seed(0)
    items, concepts, k = 200, 6000, 32
    common = torch.randn(64) if aligned else torch.zeros(64)
    scorers = [
        Scorer(torch.randn(items, 64) + common, torch.randn(concepts, 64), torch.randn(concepts))
        for _ in range(3)
    ]
    selecting_NS = torch.rand(items, 3) < 0.6
    selecting_NS[:, 0] |= ~selecting_NS.any(1)
    monkeypatch.setattr(selection, "_multiplies_bf16", lambda: False)
    exact_NK = largest_sums(scorers, selecting_NS, k).sort(1).values
    monkeypatch.setattr(selection, "_multiplies_bf16", lambda: True)
    got_NK = largest_sums(scorers, selecting_NS, k).sort(1).values
    assert torch.equal(got_NK, exact_NK)


def made_streams(items: int, concepts: int) -> list[list[Scorer]]:
    """Two products a stream: a small one, and one with the biases at 0."""
    torch.manual_seed(0)
    return [
        [
            Scorer(torch.randn(items, 4), torch.randn(concepts, 4), torch.randn(concepts)),
            Scorer(torch.randn(items, d), torch.randn(concepts, d), torch.zeros(concepts)),
        ]
        for d in (9, 6, 5)
    ]


def sorted_topk(scores_NC: torch.Tensor, k: int) -> torch.Tensor:
    return scores_NC.topk(k, dim=1).indices.sort(1).values


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("items", "concepts", "k"), [(50, 41, 6), (200, 6000, 32), (9, 700, 600)])
def test_own_and_joint_choices_are_those_of_the_dense_scores(
    items: int, concepts: int, k: int, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = made_streams(items, concepts)
    present_NS = torch.rand(items, 3) < 0.5
    present_NS[:, 1] |= ~present_NS.any(1)
    monkeypatch.setattr(selection, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(selection, "_SCORES_AT_ONCE", items * concepts // 3)
    monkeypatch.setattr(selection, "_multiplies_bf16", lambda: rounded)
    got = largest_own_and_joint(streams, present_NS, k)
    scores_SNC = torch.stack([sum(x @ w.T + b for x, w, b in parts) for parts in streams])  # pyright: ignore[reportArgumentType, reportCallIssue]
    for own_NK, scores_NC in zip(got.own, scores_SNC, strict=True):
        assert torch.equal(own_NK.sort(1).values, sorted_topk(scores_NC, k))
    joint_NC = (scores_SNC * present_NS.T[:, :, None]).sum(0)
    assert torch.equal(got.joint_NK.sort(1).values, sorted_topk(joint_NC, k))


def test_each_product_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    add = selection._add_product

    def counted(scores_NC: torch.Tensor, x_ND: torch.Tensor, *rest: torch.Tensor) -> None:
        made.append(x_ND.shape[1])
        add(scores_NC, x_ND, *rest)

    monkeypatch.setattr(selection, "_add_product", counted)
    largest_own_and_joint(made_streams(20, 30), torch.ones(20, 3, dtype=torch.bool), 4)
    assert made == [4, 9, 4, 6, 4, 5]


@pytest.mark.parametrize("together", [False, True])
def test_other_devices_choose_alike(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on CUDA, on the CPU: only the branch differs."""
    streams = made_streams(30, 50)
    present_NS = torch.rand(30, 3) < 0.7
    every = [scorer for parts in streams for scorer in parts]
    present_NP = present_NS.repeat_interleave(2, dim=1)

    def choose() -> list[torch.Tensor]:
        if together:
            return [largest_sums(every, present_NP, 5).sort(1).values]
        found = largest_own_and_joint(streams, present_NS, 5)
        return [indices_NK.sort(1).values for indices_NK in (*found.own, found.joint_NK)]

    wanted = choose()
    monkeypatch.setattr(selection, "_on_cpu", lambda _: False)
    assert all(torch.equal(a, b) for a, b in zip(choose(), wanted, strict=True))


def test_memory_does_not_grow_with_how_many_items_a_stream_selects_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = Buffers()
    monkeypatch.setattr(selection, "buffers", kept)
    items, concepts = 300, 1200  # scores of 1.4 MB: large enough to be kept
    scorers = [
        Scorer(torch.randn(items, 8), torch.randn(concepts, 8), torch.zeros(concepts))
        for _ in range(2)
    ]
    for count in range(250, 290, 10):
        selecting_NS = torch.ones(items, 2, dtype=torch.bool)
        selecting_NS[count:, 1] = False
        largest_sums(scorers, selecting_NS, 4, exact=True)
    assert sum(len(arrays) for arrays in kept._kept.values()) <= 2
