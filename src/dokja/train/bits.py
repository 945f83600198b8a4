"""Bits per byte: the loss in a unit that no tokenizer can flatter."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from dokja.train.compiled import Runner


def bits_per_byte(runner: Runner, batches: Iterable[Any], token_bytes: np.ndarray) -> float:
    """Bits the model needs per raw UTF-8 byte of the targets of `batches`.

    token_bytes [V]: bytes each token stands for, 0 for special tokens; what predicting the end marker costs counts,
    its zero bytes do not help. Partial syllables count the bytes they hold, so Hangul is honest.
    """
    nats = size = 0.0
    for b in batches:
        nats += runner.nats(b.tokens_BL, b.docs_BL, b.targets_BL, b.images)
        size += float(token_bytes[b.targets_BL[b.targets_BL >= 0]].sum())
    return nats / math.log(2) / max(size, 1.0)
