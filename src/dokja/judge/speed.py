"""Speed and price of an endpoint by the rules of Artificial Analysis, so that figures stand beside theirs.

| figure | is |
|---|---|
| time to first token | request sent to first token, of a thinking model that of its thought where it is shown |
| output speed | tokens after the first chunk / (last chunk - first chunk): the first chunk's own tokens do not count |
| end to end | time to first token + thought and `ANSWER` answer tokens at the output speed |
| blended price | (3 * input + 1 * output) / 4 per million tokens |

Tokens are counted by one tokenizer for all models (theirs: o200k), or speeds of models with other tokenizers would not
compare. A workload is asked eight times a day, the longest weekly, with prompts that never repeat; the median of 72
hours is shown. The ratio 3:1 is recalled from their pages and may have changed when cached input came in (v4.1), so it
is printed with every price. Source: the performance page of artificialanalysis.ai.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WORKLOADS = {"short": (100, 300), "default": (1_000, 1_000), "long": (10_000, 1_500), "very long": (100_000, 2_000)}
"""Tokens read and tokens written."""
ANSWER = 500
BLEND = (3, 1)
"""Parts of input and of output in a blended price."""


@dataclass(frozen=True)
class Stream:
    """One streamed answer: seconds since the request was sent and tokens of each chunk, thoughts included."""

    chunks: tuple[tuple[float, int], ...]
    thought_tokens: int = 0

    @property
    def first_token(self) -> float:
        """Seconds to the first chunk that holds a token; NaN without any."""
        return next((at for at, tokens in self.chunks if tokens), math.nan)

    @property
    def output_speed(self) -> float:
        """Tokens per second after the first chunk; NaN where everything came at once."""
        filled = [(at, tokens) for at, tokens in self.chunks if tokens]
        if len(filled) < 2 or filled[-1][0] <= filled[0][0]:
            return math.nan
        return sum(tokens for _, tokens in filled[1:]) / (filled[-1][0] - filled[0][0])

    def end_to_end(self, answer_tokens: int = ANSWER) -> float:
        """Seconds to `answer_tokens` tokens of answer, the thought before them included, at this stream's speed."""
        return self.first_token + (self.thought_tokens + answer_tokens) / self.output_speed


@dataclass(frozen=True)
class Speed:
    """Medians over streams that have the figure; `n` of them."""

    first_token: float
    output_speed: float
    end_to_end: float
    n: int


def measure(streams: Sequence[Stream]) -> Speed:
    """Medians (P50) of the figures; NaN where no stream has one."""

    def middle(values: Sequence[float]) -> float:
        finite = [v for v in values if math.isfinite(v)]
        return median(finite) if finite else math.nan

    return Speed(
        middle([s.first_token for s in streams]),
        middle([s.output_speed for s in streams]),
        middle([s.end_to_end() for s in streams]),
        len(streams),
    )


def blended_price(input_price: float, output_price: float, blend: tuple[int, int] = BLEND) -> float:
    """Price per million tokens of `blend` parts input and output, in the prices' currency."""
    return (blend[0] * input_price + blend[1] * output_price) / sum(blend)


def cost(
    prompt_tokens: int, output_tokens: int, input_price: float, output_price: float,
    cached_tokens: int = 0, cached_price: float | None = None,
) -> float:  # fmt: skip
    """Price of so many tokens at prices per million; thoughts are output. `cached_tokens` of the prompt cost
    `cached_price`, the input's where none is set. ValueError where more is cached than read.
    """
    if cached_tokens > prompt_tokens:
        raise ValueError(f"{cached_tokens} of {prompt_tokens} prompt tokens cannot come from a cache")
    cached = input_price if cached_price is None else cached_price
    fresh = prompt_tokens - cached_tokens
    return (fresh * input_price + cached_tokens * cached + output_tokens * output_price) / 1e6


def per_task(amounts: Sequence[tuple[float, float, int]]) -> float:
    """Weighted mean of an amount per task (cost, seconds or tokens): (weight, amount, tasks) of each benchmark.

    As v4.1 of the index has it: amount / tasks of each, by the weights that its score has.
    """
    total = sum(weight for weight, _, _ in amounts)
    return sum(weight * amount / tasks for weight, amount, tasks in amounts) / total
