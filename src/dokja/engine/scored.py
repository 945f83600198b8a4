"""What the model thinks of a prompt: the log-probability of each of its tokens, and the best ones in its place.

Scores of a long prompt take far more memory than all that is asked of them (512 tokens of a vocabulary of 100,000 are
200 MB), so they are reduced piece by piece, as the prompt is read.

    legend   L tokens of a piece, V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dokja.engine.api import MOST_TOP, PromptScore

_MOST_SCORES = 1 << 24
"""Of one piece: 64 MB in fp32."""


def piece(vocab: int) -> int:
    """The most tokens of a prompt to score at once."""
    return max(1, _MOST_SCORES // vocab)


def prompt_scores(logits_LV: Tensor, tokens: Sequence[int], top: int) -> list[PromptScore]:
    """The score of each of the tokens, the first of which stands behind the first row; rows behind the last are left
    out. Natural logarithms, of the model itself, as in `Event`."""
    if not tokens:
        return []
    logits_LV = logits_LV[: len(tokens)]
    at_L1 = torch.tensor(tokens, device=logits_LV.device)[:, None]
    whole_L1 = logits_LV.logsumexp(-1, keepdim=True)
    own = (logits_LV.gather(1, at_L1) - whole_L1)[:, 0].tolist()
    if not top:
        return [(p, ()) for p in own]
    # As many for every request: which of equals come first may depend on how many are asked for.
    best = logits_LV.topk(min(MOST_TOP, logits_LV.shape[1]))
    rows = zip(own, best.indices.tolist(), (best.values - whole_L1).tolist(), strict=True)
    return [(p, tuple(zip(ids[:top], scores[:top], strict=True))) for p, ids, scores in rows]
