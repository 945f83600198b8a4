"""What is asked of an engine and what comes back (no torch).

| type | direction | one per |
|---|---|---|
| Request | in | answer wanted |
| Event | out, from `generate` and `step` | token |
| Completion | out, from `complete` and `abort` | answer |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dokja.errors import ConfigError
from dokja.text.images import Patches

Finish = Literal["stop", "length", "abort"]
"""Why an answer ended: at one of its stop tokens, at `max_tokens` or the end of the context, or because told to."""


@dataclass(frozen=True)
class Request:
    """One answer to write. `prompt` holds token ids; lengths are in tokens.

    The same request gives the same answer whatever else the engine is doing: the random numbers come from (seed,
    position) alone. Filters act in the order temperature, top_k, top_p.
    """

    id: str
    prompt: list[int]
    max_tokens: int
    """Upper bound of the answer; the context may end it sooner (finish "length" as well)."""
    temperature: float = 1.0
    """Divides the scores; 0 takes the best token always."""
    top_p: float = 1.0
    """Keeps the fewest best tokens whose probabilities reach this sum; 1 keeps all."""
    top_k: int = 0
    """Keeps this many best tokens; 0 keeps all."""
    seed: int = 0
    stop: tuple[int, ...] = ()
    """Ids that end the answer; the one met is the answer's last token."""
    think_budget: int | None = None
    """Tokens a thought may have before it is closed by force; None never closes one."""
    think_close: tuple[int, ...] = ()
    """Ids written to close a thought. The model writing the last of them itself counts as closing it."""
    images: tuple[Patches, ...] = ()
    """In the order of their places in the prompt, which holds the model's image token once for each of their tokens."""

    def __post_init__(self) -> None:
        """Raises ConfigError with a sentence where a value cannot be meant."""
        name = f"request {self.id!r}"
        if not self.prompt:
            raise ConfigError(f"{name} has an empty prompt. Give it at least one token, such as the begin marker.")
        if self.max_tokens < 1:
            raise ConfigError(f"{name} has max_tokens = {self.max_tokens}. Ask for at least 1 token.")
        if not 0.0 <= self.temperature < float("inf"):
            raise ConfigError(f"{name} has temperature = {self.temperature}. Use 0 for the best token, up to about 2.")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"{name} has top_p = {self.top_p}. Use a share above 0 and at most 1 (1 keeps all).")
        if self.top_k < 0:
            raise ConfigError(f"{name} has top_k = {self.top_k}. Use 0 to keep all tokens, or a count.")
        if self.think_budget is not None and (self.think_budget < 0 or not self.think_close):
            raise ConfigError(
                f"{name} has think_budget = {self.think_budget} and think_close = {self.think_close}. "
                "A budget is at least 0 and needs the ids that close a thought."
            )


@dataclass(frozen=True)
class Event:
    """One token of one answer. `logprob` is natural, of the model itself: before temperature, top_k and top_p."""

    id: str
    token: int
    logprob: float
    finish: Finish | None = None
    """Set on an answer's last event."""


@dataclass(frozen=True)
class Completion:
    """One whole answer; `tokens` ends with the stop token where `finish` is "stop"."""

    id: str
    tokens: list[int]
    logprobs: list[float]
    """One per token, as in `Event`; those of forced tokens too."""
    finish: Finish
    forced: bool
    """Whether the thinking budget closed the thought."""
    prompt_tokens: int
