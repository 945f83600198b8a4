"""Efficiency by names that say what is divided by what.

"Efficiency" alone is no number: a press figure of "training efficiency 89.4 %" has no published definition and could be
any of the four training metrics below, so none of them bears that name.

| name | is |
|---|---|
| size ratio | parameters of ours / of the other model's |
| active share | parameters that one token meets / all |
| score per log-FLOP | score / log10 of the FLOPs of training |
| goodput | seconds in steps that counted / seconds of the wall clock |
| scaling efficiency | tokens/s of N devices / (N * tokens/s of one) |
| MFU | FLOP/s that the model's arithmetic needs / FLOP/s of the devices |
| sample efficiency | tokens a reference needs to a loss / tokens ours needs |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def size_ratio(ours: float, theirs: float) -> float:
    """32e9 / 671e9 = 0.048: how much smaller."""
    return _positive(ours, "ours") / _positive(theirs, "theirs")


def active_share(active: float, total: float) -> float:
    """23e9 / 236e9 = 0.097. ValueError where more parameters are active than there are."""
    if active > total:
        raise ValueError(f"{active:g} of {total:g} parameters cannot be active")
    return _positive(active, "active") / total


def training_flops(parameters: float, tokens: float) -> float:
    """6 N D (Kaplan et al. 2020, arXiv 2001.08361, section 2.1); N counts active parameters."""
    return 6 * _positive(parameters, "parameters") * _positive(tokens, "tokens")


def score_per_log_flop(score: float, flops: float) -> float:
    """Score over log10(FLOPs). ValueError for 1 FLOP or less, of which the logarithm says nothing."""
    if flops <= 1:
        raise ValueError(f"{flops:g} FLOPs are no training")
    return score / math.log10(flops)


def goodput(step_seconds: Sequence[float], wall_seconds: float) -> float:
    """Seconds of steps whose result was kept, over the wall clock from first start to end: saves, restarts, waiting and
    repeated steps are the rest. ValueError where the steps took longer than the clock.
    """
    productive = math.fsum(step_seconds)
    if productive > _positive(wall_seconds, "wall_seconds") * (1 + 1e-9):
        raise ValueError(f"steps of {productive:g} s do not fit into {wall_seconds:g} s")
    return productive / wall_seconds


def scaling_efficiency(tokens_per_second: float, devices: int, one_device: float) -> float:
    """Share of `devices` times one device's speed that is reached; above 1 where one device alone was held back."""
    return tokens_per_second / (_positive(devices, "devices") * _positive(one_device, "one_device"))


def mfu(
    active_parameters: float, tokens_per_second: float, peak_flops: float, attention_flops_per_token: float = 0.0
) -> float:
    """(6 N_active + attention) * tokens/s / peak FLOP/s (PaLM, arXiv 2204.02311, appendix B).

    `attention_flops_per_token`: forward and backward of scores and values, 12 * layers * width * positions seen.
    """
    per_token = 6 * _positive(active_parameters, "active_parameters") + attention_flops_per_token
    return per_token * tokens_per_second / _positive(peak_flops, "peak_flops")


def sample_efficiency(
    ours: Sequence[tuple[float, float]], reference: Sequence[tuple[float, float]], loss: float
) -> float:
    """Tokens to `loss` of `reference` over those of `ours`; curves are (tokens, loss). 2.0: half the tokens.

    Between two points the loss is taken as linear in log tokens. ValueError where a curve does not get there.
    """
    return _tokens_to(reference, loss, "the reference") / _tokens_to(ours, loss, "ours")


def _tokens_to(curve: Sequence[tuple[float, float]], loss: float, whose: str) -> float:
    if curve and curve[0][1] <= loss:
        return curve[0][0]
    for (before, high), (after, low) in pairwise(curve):
        if low <= loss < high:
            share = (high - loss) / (high - low)
            return math.exp(math.log(before) + share * (math.log(after) - math.log(before)))
    raise ValueError(f"{whose} never reaches a loss of {loss:g}")


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise ValueError(f"{name} is {value:g}, which cannot be divided by")
    return value
