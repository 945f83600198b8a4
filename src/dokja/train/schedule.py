"""Learning-rate schedules as pure functions of the step: the factor that multiplies every peak rate."""

from __future__ import annotations

import math


def wsd(step: int, steps: int, warmup: float, decay: float, final: float) -> float:
    """Warm-up, stable, decay (arXiv 2404.06395): linear up, flat, linear down to `final`. Shares are of `steps`."""
    up, down = warmup * steps, decay * steps
    if step < up:
        return (step + 1) / (up + 1)
    left = steps - step
    return 1.0 if left >= down else final + (1.0 - final) * left / down


def cosine(step: int, steps: int, warmup: float, decay: float, final: float) -> float:
    """Linear warm-up, then half a cosine from 1 down to `final` over the remaining steps; `decay` is not used."""
    up = warmup * steps
    if step < up:
        return (step + 1) / (up + 1)
    done = (step - up) / max(1.0, steps - up)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))


SCHEDULES = {"wsd": wsd, "cosine": cosine}
