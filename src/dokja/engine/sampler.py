"""From scores to tokens, all rows at once.

A token is drawn by inverting the distribution function at one uniform number: u = hash(seed, position). So what a
request draws depends on nothing but its own scores, seed and position; not on batch mates, slot or order. Filtering
keeps the tokens in vocabulary order, so that a row draws the same whether or not its mates have filters.

On a CPU with a compiler, one C++ call (`model/native/decode.cpp`) draws and finds the log-probabilities, in one pass
over the scores; torch does the filters, and everything elsewhere.

    legend   B rows, V vocabulary
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from dokja.engine.api import Request
from dokja.model.native.build import load

# splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators")
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_ALL = (1 << 64) - 1
_HEAD = 64  # best tokens looked at first; whole rows are sorted only where these are not enough


def _signed(x: int) -> int:
    """The int64 with the same 64 bits."""
    x &= _ALL
    return x - (1 << 64) if x >> 63 else x


def seed_key(seed: int) -> int:
    """A request's seed (any integer, 64 bits count), mixed so that neighbouring seeds have nothing in common."""
    z = (seed + _GOLDEN) & _ALL
    for shift, factor in _MIX:
        z = ((z ^ (z >> shift)) * factor) & _ALL
    return _signed(z ^ (z >> 31))


def uniform(key_B: Tensor, position_B: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), fp64 with 53 bits, for int64 keys (`seed_key`) and positions of one shape."""

    def shifted(z: Tensor, bits: int) -> Tensor:  # int64 shifts copy the sign, which is not meant here
        return (z >> bits) & ((1 << (64 - bits)) - 1)

    z = key_B + position_B * _signed(_GOLDEN)
    for bits, factor in _MIX:
        z = (z ^ shifted(z, bits)) * _signed(factor)
    z = z ^ shifted(z, 31)
    return shifted(z, 11).double() * 2.0**-53


def _edge(best_BM: Tensor, mass_B: Tensor, k_B: Tensor, top_p_B: Tensor) -> tuple[Tensor, Tensor]:
    """-> the least probability to keep [B], and whether the M best (descending) were enough to know it [B]."""
    m = best_BM.shape[1]
    cdf_BM = best_BM.cumsum(-1, dtype=torch.float64)
    mass_B = torch.where(k_B <= m, cdf_BM.gather(1, k_B.clamp(max=m)[:, None] - 1)[:, 0], mass_B)
    need_B = torch.where(top_p_B < 1.0, top_p_B * mass_B, torch.inf)
    # A token stays while those before it have not reached the sum yet.
    keep_B = (cdf_BM - best_BM < need_B[:, None]).sum(-1)
    known_B = (k_B <= m) | (cdf_BM[:, -1] >= need_B)
    keep_B = torch.minimum(keep_B, k_B.clamp(max=m)).clamp(min=1)
    return best_BM.gather(1, keep_B[:, None] - 1)[:, 0], known_B


def keep_top(p_BV: Tensor, top_k_B: Tensor, top_p_B: Tensor) -> Tensor:
    """Probabilities with all but the best tokens set to 0 (not renormalised): top_k first, top_p of what it leaves.

    top_k 0 and top_p 1 keep everything. Tokens exactly as probable as the last one kept are kept as well.
    """
    vocab = p_BV.shape[1]
    k_B = torch.where(top_k_B > 0, top_k_B, vocab).clamp(max=vocab)
    top_p_B = top_p_B.double()
    mass_B = p_BV.sum(-1, dtype=torch.float64)
    head = min(vocab, max(_HEAD, int(top_k_B.max())))
    edge_B, known_B = _edge(p_BV.topk(head).values, mass_B, k_B, top_p_B)
    open_B = (top_k_B == 0) & (top_p_B >= 1.0)
    edge_B = torch.where(open_B, 0.0, edge_B)
    rest = (~(known_B | open_B)).nonzero()[:, 0]
    if len(rest):
        ranked = p_BV[rest].sort(dim=-1, descending=True).values
        edge_B[rest] = _edge(ranked, mass_B[rest], k_B[rest], top_p_B[rest])[0]
    return p_BV.masked_fill(p_BV < edge_B[:, None], 0.0)


def logprobs(logits_BV: Tensor, tokens_B: Tensor) -> Tensor:
    """log_softmax of the raw scores at the tokens [B]: the model's own probability, before temperature and filters."""
    return logits_BV.log_softmax(-1).gather(-1, tokens_B[:, None])[:, 0]


def _copy(x: Tensor) -> Tensor:
    """A copy with the same strides."""
    return torch.empty_strided(x.shape, x.stride(), device=x.device, dtype=x.dtype).copy_(x)


@dataclass(frozen=True)
class Needs:
    """What some rows of a batch ask for; spares the others' work when nobody does."""

    greedy: bool
    drawn: bool
    filters: bool


class Sampler:
    """The sampling settings of every slot, as tensors."""

    def __init__(self, slots: int, device: str, banned: int | None = None):
        """`banned`: a token that is never drawn, whatever its score; log-probabilities do not know of it."""
        self._banned = banned
        self._library = load("decode") if device == "cpu" else None
        self._floats = torch.ones(2, slots, device=device)  # temperature, top_p
        self._ints = torch.zeros(2, slots, dtype=torch.int64, device=device)  # top_k, key

    def put(self, slot: int, request: Request) -> None:
        """Settings of the sequence in a slot."""
        self._floats[:, slot] = torch.tensor([request.temperature, request.top_p])
        self._ints[:, slot] = torch.tensor([request.top_k, seed_key(request.seed)])

    def move(self, source: int, target: int) -> None:
        """A sequence changes its slot."""
        self._floats[:, target] = self._floats[:, source]
        self._ints[:, target] = self._ints[:, source]

    def needs(self, first: int, last: int) -> Needs:
        """What slots first..last-1 ask for; holds until a sequence comes, goes or moves."""
        (temperature, top_p), top_k = self._floats[:, first:last], self._ints[0, first:last]
        filters = ((top_p < 1.0) | (top_k > 0)) & (temperature > 0)
        return Needs(bool((temperature == 0).any()), bool((temperature > 0).any()), bool(filters.any()))

    def _settings(self, first: int, rows: int, each: int) -> tuple[Tensor, Tensor]:
        """(temperature, top_p) and (top_k, key), [2, rows]; every slot has `each` rows, one after the other."""
        slots = slice(first, first + rows // each)
        floats, ints = self._floats[:, slots], self._ints[:, slots]
        return (floats, ints) if each == 1 else (floats.repeat_interleave(each, 1), ints.repeat_interleave(each, 1))

    def sample(self, logits_BV: Tensor, first: int, position_B: Tensor, needs: Needs, each: int = 1) -> Tensor:
        """Tokens [B] for the slots from `first` on; `position_B` is the place of each new token in its sequence."""
        if not needs.drawn:
            return logits_BV.argmax(-1)
        floats, ints = self._settings(first, len(logits_BV), each)
        greedy_B, key_B = floats[0] == 0, ints[1]
        p_BV = self._probabilities(logits_BV, floats, ints, needs)
        cdf_BV = p_BV.cumsum(-1, dtype=torch.float64)
        # u < 1, so the target lies below the sum and the token found has a probability above 0.
        target_B = uniform(key_B, position_B) * cdf_BV[:, -1]
        drawn_B = torch.searchsorted(cdf_BV, target_B[:, None], right=True)[:, 0].clamp_(max=logits_BV.shape[1] - 1)
        return torch.where(greedy_B, logits_BV.argmax(-1), drawn_B) if needs.greedy else drawn_B

    def _probabilities(self, logits_BV: Tensor, floats: Tensor, ints: Tensor, needs: Needs) -> Tensor:
        """After temperature (1 for greedy rows) and filters; not renormalised."""
        (temperature_B, top_p_B), top_k_B = floats, ints[0]
        scale_B = torch.where(temperature_B == 0, 1.0, temperature_B) if needs.greedy else temperature_B
        p_BV = (logits_BV / scale_B[:, None]).softmax(-1)
        return keep_top(p_BV, top_k_B, top_p_B) if needs.filters else p_BV

    def draw(
        self,
        logits_BV: Tensor,
        first: int,
        position_B: Tensor,
        needs: Needs,
        forced_B: Tensor | None = None,
        each: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """`sample` and `logprobs` together; `forced_B` holds tokens that must come, -1 where there is none.

        Slots have `each` rows of scores, one after the other, for as many places in their sequence.
        """
        open_BV = logits_BV
        if self._banned is not None:
            open_BV = _copy(logits_BV)
            open_BV[:, self._banned] = -torch.inf
        if self._library is None:
            chosen_B = self.sample(open_BV, first, position_B, needs, each)
            if forced_B is not None:
                chosen_B = torch.where(forced_B < 0, chosen_B, forced_B)
            return chosen_B, logprobs(logits_BV, chosen_B)
        rows, vocab = logits_BV.shape
        floats, ints = self._settings(first, rows // each, 1)
        if needs.filters:
            hidden_BV = self._probabilities(open_BV, *self._settings(first, rows, each), needs) == 0
            open_BV = _copy(open_BV) if open_BV is logits_BV else open_BV
            open_BV.masked_fill_(hidden_BV, -torch.inf)
        tokens_B, logprobs_B = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
        arrays = (floats[0], ints[1], position_B, forced_B, tokens_B, logprobs_B)
        self._library.dokja_draw(
            *(ctypes.c_void_p(t.data_ptr()) for t in (logits_BV, open_BV)),
            *(ctypes.c_int64(n) for n in (rows, vocab, logits_BV.stride(0), each)),
            *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in arrays),
        )
        return tokens_B, logprobs_B
