"""Hidden inputs: what is drawn, and that every device draws it."""

from __future__ import annotations

import pytest
import torch

from training.kernels.hiding import with_hidden


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_hidden_and_the_rest_scaled(share: float) -> None:
    z_ND = torch.rand(400, 301) + 1
    hidden_ND = with_hidden(z_ND, share, 7, 0)
    kept_ND = hidden_ND != 0
    torch.testing.assert_close(hidden_ND[kept_ND], z_ND[kept_ND] / (1 - share))
    spread = (share * (1 - share)) ** 0.5
    for dims, count in (((0, 1), kept_ND.numel()), ((0,), 400), ((1,), 301)):
        off = (kept_ND.float().mean(dims) - (1 - share)).abs().max()
        assert off < 5 * spread / count**0.5  # standard errors


def test_neighbours_are_drawn_apart() -> None:
    """Rows, dimensions and keys beside each other share half of their draws, within 5 errors."""
    kept_ND = with_hidden(torch.ones(400, 300), 0.5, 3, 0) > 0
    next_ND = with_hidden(torch.ones(400, 300), 0.5, 4, 0) > 0
    pairs = [(kept_ND[1:], kept_ND[:-1]), (kept_ND[:, 1:], kept_ND[:, :-1]), (kept_ND, next_ND)]
    for one, other in pairs:
        assert abs((one == other).float().mean() - 0.5) < 5 * 0.5 / one.numel() ** 0.5


def test_a_row_is_its_item_s_whatever_is_beside_it() -> None:
    z_ND = torch.randn(50, 33)
    assert with_hidden(z_ND[20:], 0.3, 9, 20).equal(with_hidden(z_ND, 0.3, 9, 0)[20:])


def test_other_devices_draw_the_same() -> None:
    z_ND = torch.randn(30, 70)
    by_loop = with_hidden(z_ND, 0.4, 2**32 - 1, 5)
    by_torch = with_hidden(z_ND.double(), 0.4, 2**32 - 1, 5)  # only float32 is looped over
    torch.testing.assert_close(by_loop, by_torch.float())
