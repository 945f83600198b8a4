"""What penalties and biases make of scores: presence, frequency and repetition penalty, logit bias.

    score -> score / r or score * r (whichever is lower; tokens of prompt or answer), then
             + bias - presence (once) - frequency * count (tokens of the answer)

r is the repetition penalty, as in transformers; presence and frequency are OpenAI's, and count what was generated
alone. Only the tokens concerned are written down, so a row costs as much as it has different tokens.

    legend   R rows of scores, N changes of all of them, V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dokja.engine.api import Request

Row = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Ids (int64, each once), what divides or multiplies their scores, and what is added then (fp32)."""
BARRED = -1e30
"""Added to a score: the token comes only where nothing else may, not even by a grammar."""
_NOTHING: Row = (np.zeros(0, np.int64), np.ones(0, np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Edits:
    """Changes of R rows of scores, one row after the other."""

    first: Tensor
    """int64 [R + 1]: the changes of row r are first[r]..first[r+1]-1."""
    token: Tensor
    """int64 [N]"""
    scale: Tensor
    """fp32 [N]: divides scores above 0, multiplies the others."""
    add: Tensor
    """fp32 [N]"""

    @classmethod
    def of(cls, rows: Sequence[Row | None]) -> Edits | None:
        """All rows together; None where none has any."""
        if not any(rows):
            return None
        whole = [row or _NOTHING for row in rows]
        first = np.cumsum([0, *(len(row[0]) for row in whole)])
        token, scale, add = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*whole, strict=True))
        return cls(torch.from_numpy(first), token, scale, add)

    def apply(self, scores_RV: Tensor) -> None:
        """Changes the scores in place; `model/native/draw.cpp` does the same."""
        device = scores_RV.device
        row = torch.arange(len(scores_RV)).repeat_interleave(self.first.diff()).to(device)
        token, scale, add = (x.to(device) for x in (self.token, self.scale, self.add))
        x = scores_RV[row, token]
        scores_RV[row, token] = torch.where(x > 0, x / scale, x * scale) + add


def barred(row: Row | None, tokens: Sequence[int]) -> Row:
    """The row's changes, with these tokens barred."""
    ids, scale, add = row or _NOTHING
    stay, bar = ~np.isin(ids, tokens), np.array(sorted(set(tokens)), np.int64)
    off = np.full(len(bar), BARRED, np.float32)
    parts = ((ids[stay], bar), (scale[stay], np.ones(len(bar), np.float32)), (add[stay], off))
    ids, scale, add = (np.concatenate(pair) for pair in parts)
    return ids, scale, add


class Penalties:
    """The tokens of one sequence that its penalties and biases concern, and how often each was written."""

    def __init__(self, request: Request):
        self._request = request
        bias = dict(request.logit_bias)
        prompt = dict.fromkeys(request.prompt) if request.repetition_penalty != 1.0 else {}
        tokens = list(bias | prompt)
        self._place = {token: at for at, token in enumerate(tokens)}
        self._ids = np.array(tokens, np.int64)
        self._bias = np.array([bias.get(token, 0.0) for token in tokens])
        self._seen = np.array([token in prompt for token in tokens], bool)
        self._count = np.zeros(len(tokens), np.int64)

    @classmethod
    def of(cls, request: Request) -> Penalties | None:
        """None where the request asks for none."""
        r = request
        some = r.presence_penalty or r.frequency_penalty or r.repetition_penalty != 1.0 or r.logit_bias
        return cls(request) if some else None

    def wrote(self, token: int) -> None:
        """The answer has grown by this token."""
        at = self._place.setdefault(token, len(self._place))
        if at == len(self._ids):
            room = max(64, at)
            self._ids, self._count = (np.pad(x, (0, room)) for x in (self._ids, self._count))
            self._bias, self._seen = (np.pad(x, (0, room)) for x in (self._bias, self._seen))
        self._ids[at] = token
        self._count[at] += 1

    def _unwrite(self, token: int) -> None:
        """Takes back the last `wrote`."""
        at = self._place[token]
        self._count[at] -= 1
        if at == len(self._place) - 1 and not (self._count[at] or self._seen[at] or self._bias[at]):
            del self._place[token]

    def rows(self, drafts: Sequence[int]) -> list[Row]:
        """Changes of the scores after what is written, and after each of the drafts behind it."""
        out = [self._row()]
        for draft in drafts:
            self.wrote(draft)
            out.append(self._row())
        for draft in reversed(drafts):
            self._unwrite(draft)
        return out

    def _row(self) -> Row:
        n, r = len(self._place), self._request
        count = self._count[:n]
        scale = np.where(self._seen[:n] | (count > 0), np.float32(r.repetition_penalty), np.float32(1.0))
        add = self._bias[:n] - r.presence_penalty * (count > 0) - r.frequency_penalty * count
        return self._ids[:n].copy(), scale, np.maximum(add, BARRED).astype(np.float32)
