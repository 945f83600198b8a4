"""Every backend of attention sees the same keys."""

import pytest
import torch

from dokja.model import attention


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("window", [None, 1, 7])
def test_the_gpu_rule_equals_the_dense_mask(window: int | None) -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    docs = torch.tensor([[1] * 20 + [2] * 30 + [0] * 14, [1] * 64])
    start = attention.document_starts(docs)
    gen = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 64, heads, 32, generator=gen) for heads in (4, 2, 2))
    mask = create_block_mask(attention._seen(start, window), 2, None, 64, 64, device="cpu")
    expected = attention.sdpa(q, k, v, start, window)
    torch.testing.assert_close(attention.flex(q, k, v, mask), expected, atol=1e-5, rtol=0)


def test_without_a_compiler_training_goes_on_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_compiled_here", False)
    start = attention.document_starts(torch.ones(1, 8, dtype=torch.int32))
    q = torch.randn(1, 8, 2, 32)
    torch.testing.assert_close(attention.attend(q, q, q, start, 3), attention.sdpa(q, q, q, start, 3))
