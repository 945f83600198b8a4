"""From scores to tokens, all rows at once.

    penalties and bias ─► grammar ─► temperature ─► top_k ─► top_p ─► min_p ─► the token at u of what is left

A token is drawn by inverting the distribution function at one uniform number: u = hash(seed, position). So what a
request draws depends on nothing but its own scores, seed and position; not on batch mates, slot or order. Filtering
keeps the tokens in vocabulary order, so that a row draws the same whether or not its mates have filters.

Each filter is a least score to keep, so equals stay or go together. What top_p shares out is what top_k left.

On a CPU with a compiler, one C++ call (`model/native/draw.cpp`) does all of it and finds the log-probabilities, in a
few passes over the scores and without sorting them; elsewhere torch does.

    legend   B rows, V vocabulary, M best tokens
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dokja.engine.api import Request
from dokja.engine.penalties import Edits
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


def _nucleus(ranked_BM: Tensor, p_BM: Tensor, need_B: Tensor) -> tuple[Tensor, Tensor]:
    """-> the least of the M best scores before which their probabilities do not reach `need` [B], and whether the M
    were enough to know it [B]."""
    cdf_BM = p_BM.cumsum(-1, dtype=torch.float64)
    count_B = (cdf_BM - p_BM < need_B[:, None]).sum(-1).clamp(min=1)
    return ranked_BM.gather(1, count_B[:, None] - 1)[:, 0], cdf_BM[:, -1] >= need_B


def least_kept(scores_BV: Tensor, p_BV: Tensor, top_k_B: Tensor, top_p_B: Tensor, drop_B: Tensor) -> Tensor:
    """The least score [B] that top_k, then top_p, then min_p keep; `drop_B` is min_p as a distance from the best score
    (`min_p_drop`). `p_BV` are the scores' probabilities at their temperature. 0, 1 and infinity keep everything."""
    vocab = scores_BV.shape[1]
    limited_B = (top_k_B > 0) & (top_k_B < vocab)
    k_B = torch.where(limited_B, top_k_B, 1)
    ranked_BM, best_BM = scores_BV.topk(min(vocab, max(_HEAD, int(k_B.max()))))
    edge_B = torch.where(limited_B, ranked_BM.gather(1, k_B[:, None] - 1)[:, 0], -torch.inf)
    open_B, top_p_B = top_p_B >= 1.0, top_p_B.double()
    if not open_B.all():
        left_B = p_BV.masked_fill(scores_BV < edge_B[:, None], 0.0).sum(-1, dtype=torch.float64)
        need_B = top_p_B * left_B
        nucleus_B, known_B = _nucleus(ranked_BM, p_BV.gather(1, best_BM), need_B)
        rest = (~(known_B | open_B)).nonzero()[:, 0]
        if len(rest):
            ranked, order = scores_BV[rest].sort(dim=-1, descending=True)
            nucleus_B[rest] = _nucleus(ranked, p_BV[rest].gather(1, order), need_B[rest])[0]
        edge_B = torch.where(open_B, edge_B, torch.maximum(edge_B, nucleus_B))
    return torch.maximum(edge_B, ranked_BM[:, 0] - drop_B)


def min_p_drop(min_p: float, temperature: float) -> float:
    """How far below the best score a token may lie: there it is min_p times as probable."""
    return -math.log(min_p) * temperature if min_p else math.inf


def logprobs(logits_BV: Tensor, tokens_B: Tensor) -> Tensor:
    """log_softmax of the raw scores at the tokens [B]: the model's own probability, before anything changes them."""
    return logits_BV.log_softmax(-1).gather(-1, tokens_B[:, None])[:, 0]


def unpacked(allowed: Tensor, vocab: int) -> Tensor:
    """A bit mask int32 [..., ceil(V / 32)] as bools [..., V]: token t is bit t % 32 of word t // 32."""
    bits = torch.arange(32, device=allowed.device, dtype=torch.int32)
    return (allowed[..., None] >> bits & 1).bool().flatten(-2)[..., :vocab]


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
        self._library = load("draw") if device == "cpu" else None
        self._floats = torch.ones(3, slots, device=device)  # temperature, top_p, how far min_p lets scores drop
        self._ints = torch.zeros(2, slots, dtype=torch.int64, device=device)  # top_k, key

    def put(self, slot: int, request: Request) -> None:
        """Settings of the sequence in a slot."""
        r = request
        self._floats[:, slot] = torch.tensor([r.temperature, r.top_p, min_p_drop(r.min_p, r.temperature)])
        self._ints[:, slot] = torch.tensor([r.top_k, seed_key(r.seed)])

    def move(self, source: int, target: int) -> None:
        """A sequence changes its slot."""
        self._floats[:, target] = self._floats[:, source]
        self._ints[:, target] = self._ints[:, source]

    def needs(self, first: int, last: int) -> Needs:
        """What slots first..last-1 ask for; holds until a sequence comes, goes or moves."""
        (temperature, top_p, drop), top_k = self._floats[:, first:last], self._ints[0, first:last]
        filters = ((top_p < 1.0) | (top_k > 0) | (drop < torch.inf)) & (temperature > 0)
        return Needs(bool((temperature == 0).any()), bool((temperature > 0).any()), bool(filters.any()))

    def _settings(self, first: int, rows: int, each: int) -> tuple[Tensor, Tensor]:
        """(temperature, top_p, drop) and (top_k, key) of every row; slots have `each` rows, one after the other."""
        slots = slice(first, first + rows // each)
        floats, ints = self._floats[:, slots], self._ints[:, slots]
        return (floats, ints) if each == 1 else (floats.repeat_interleave(each, 1), ints.repeat_interleave(each, 1))

    def sample(self, logits_BV: Tensor, first: int, position_B: Tensor, needs: Needs, each: int = 1) -> Tensor:
        """Tokens [B] for the slots from `first` on; `position_B` is the place of each new token in its sequence."""
        if not needs.drawn:
            return logits_BV.argmax(-1)
        (temperature_B, top_p_B, drop_B), (top_k_B, key_B) = self._settings(first, len(logits_BV), each)
        greedy_B = temperature_B == 0
        scale_B = torch.where(greedy_B, 1.0, temperature_B) if needs.greedy else temperature_B
        p_BV = (logits_BV / scale_B[:, None]).softmax(-1)
        if needs.filters:
            least_B = least_kept(logits_BV, p_BV, top_k_B, top_p_B, drop_B)
            p_BV = p_BV.masked_fill(logits_BV < least_B[:, None], 0.0)
        cdf_BV = p_BV.cumsum(-1, dtype=torch.float64)
        # u < 1, so the target lies below the sum and the token found has a probability above 0.
        target_B = uniform(key_B, position_B) * cdf_BV[:, -1]
        drawn_B = torch.searchsorted(cdf_BV, target_B[:, None], right=True)[:, 0].clamp_(max=logits_BV.shape[1] - 1)
        return torch.where(greedy_B, logits_BV.argmax(-1), drawn_B) if needs.greedy else drawn_B

    def draw(
        self,
        logits_BV: Tensor,
        first: int,
        position_B: Tensor,
        needs: Needs,
        forced_B: Tensor | None = None,
        each: int = 1,
        edits: Edits | None = None,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens [B], `sample`d or forced, and their `logprobs`.

        `forced_B` holds tokens that must come, -1 where there is none; `edits` change scores before anything else;
        `allowed` is a bit mask int32 [B, ceil(V / 32)] of what may come at all (see `unpacked`). Slots have `each` rows
        of scores, one after the other, for as many places in their sequence.
        """
        if self._library is not None:
            return self._native(logits_BV, first, position_B, forced_B, each, edits, allowed)
        open_BV = logits_BV
        if self._banned is not None or edits is not None or allowed is not None:
            open_BV = logits_BV.clone()
        if edits is not None:
            edits.apply(open_BV)
        if self._banned is not None:
            open_BV[:, self._banned] = -torch.inf
        if allowed is not None:
            open_BV.masked_fill_(~unpacked(allowed.to(open_BV.device), open_BV.shape[1]), -torch.inf)
        chosen_B = self.sample(open_BV, first, position_B, needs, each)
        if forced_B is not None:
            forced_B = forced_B.to(chosen_B.device)
            chosen_B = torch.where(forced_B < 0, chosen_B, forced_B)
        return chosen_B, logprobs(logits_BV, chosen_B)

    def _native(
        self,
        logits_BV: Tensor,
        first: int,
        position_B: Tensor,
        forced_B: Tensor | None,
        each: int,
        edits: Edits | None,
        allowed: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """`draw` in C++."""
        rows, vocab = logits_BV.shape
        floats, ints = self._settings(first, rows // each, 1)
        changes = (None,) * 4 if edits is None else (edits.first, edits.token, edits.scale, edits.add)
        words = 0 if allowed is None else allowed.shape[1]
        tokens_B, logprobs_B = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
        banned = -1 if self._banned is None else self._banned
        arrays = (*floats, *ints, position_B, forced_B, *changes, allowed, tokens_B, logprobs_B)
        self._library.dokja_draw(  # type: ignore[union-attr]
            ctypes.c_void_p(logits_BV.data_ptr()),
            *(ctypes.c_int64(n) for n in (rows, vocab, logits_BV.stride(0), each, words, banned)),
            *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in arrays),
        )
        return tokens_B, logprobs_B
