"""The loss in chunks: bounded by bytes, the same for any bound, and no gradient for what is frozen."""

from __future__ import annotations

import pytest
import torch

from dokja.model import loss


@pytest.mark.parametrize(("vocab", "rows"), [(300, 2048), (32_768, 2048), (102_400, 512), (153_600, 256), (10**9, 1)])
def test_scores_of_a_chunk_are_bounded(vocab: int, rows: int) -> None:
    assert loss.chunk_rows(vocab) == rows
    assert rows == 1 or 4 * vocab * rows <= loss.CHUNK_BYTES


def gradients(frozen: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(40, 16, generator=gen, requires_grad=True)
    w = torch.randn(50, 16, generator=gen, requires_grad=not frozen)
    target = torch.randint(-1, 50, (40,), generator=gen)
    value, _ = loss.linear_cross_entropy(x, w, target, torch.rand(40, generator=gen))
    (2 * value).backward()
    return value.detach(), x.grad, w.grad


def test_any_bound_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gradients()
    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * 50 * 8)
    assert loss.chunk_rows(50) == 8
    for a, b in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_frozen_matrix_has_no_gradient_and_changes_nothing_else() -> None:
    free, frozen = gradients(), gradients(frozen=True)
    assert torch.equal(free[0], frozen[0]) and torch.equal(free[1], frozen[1]) and frozen[2] is None
