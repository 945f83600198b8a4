"""What is asked of an engine and what comes back (no torch).

| type | direction | one per |
|---|---|---|
| Request | in | answer wanted |
| Event | out, from `generate` and `step` | token |
| Completion | out, from `complete` and `abort` | answer |
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from dokja.errors import ConfigError
from dokja.text.images import Patches

if TYPE_CHECKING:
    from dokja.engine.rules import Grammar

Finish = Literal["stop", "length", "abort"]
"""Why an answer ended: at one of its stop tokens or stop strings, at `max_tokens` or the end of the context, or because
told to (by `abort`, or by a grammar that became too complex to go on with)."""
Top = tuple[tuple[int, float], ...]
"""The best tokens of a place and their log-probabilities, best first."""
PromptScore = tuple[float, Top]
"""Of a token of the prompt: the log-probability that the model gave it, and the best ones in its place."""
MOST_TOP = 20


@dataclass(frozen=True)
class Request:
    """One answer to write. `prompt` holds token ids; lengths are in tokens.

    The same request gives the same answer whatever else the engine is doing: the random numbers come from (seed,
    position) alone. What changes the scores acts in the order penalties and bias, grammar, temperature, top_k, top_p,
    min_p. Stop strings and grammars bind the answer, never the thought before it.
    """

    id: str
    prompt: list[int]
    max_tokens: int
    """Upper bound of thought and answer; the context may end them sooner (finish "length" as well)."""
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
    min_p: float = 0.0
    """Keeps tokens at least this many times as probable as the best one; 0 keeps all."""
    presence_penalty: float = 0.0
    """Taken once from the score of every token that the answer (thought included) holds already."""
    frequency_penalty: float = 0.0
    """Taken from a token's score as often as the answer holds it."""
    repetition_penalty: float = 1.0
    """Divides positive scores of tokens in prompt or answer and multiplies negative ones (arXiv 1909.05858, 4.1)."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(id, what is added to its score); -inf bars a token wherever another may come."""
    stop_text: tuple[str, ...] = ()
    """Strings that end the answer with the token that completes one; see `engine.stops` for what counts as one."""
    top_logprobs: int = 0
    """The best tokens of every place to report, with the model's log-probabilities; at most 20."""
    prompt_logprobs: int | None = None
    """The best tokens to report at every place of the prompt, with what the model gave to the prompt's own: 0 to 20,
    None for neither. Such a prompt is read afresh, since what is known of its beginning holds no scores."""
    thinking: bool = False
    """The prompt ends in an open thought. A budget says so as well."""
    recover: bool = False
    """A thought always ends in an answer: it is closed early enough to leave `answer_tokens`, a stop token in it closes
    it, and no stop token can end the answer before it holds more than white space (a grammar decides that itself).
    Without a thought this does nothing. What is so written was not all drawn: leave it out where a policy learns."""
    answer_tokens: int | None = None
    """See `recover`; None takes `effort.answer_room` of what prompt and context leave."""
    grammar: Grammar | None = None
    """What the answer has to match. Behind a thought: `Grammar.after` the `lead` of the chat format, with `recover`, or
    else a stop token in the thought ends all."""

    def __post_init__(self) -> None:
        """Raises ConfigError with a sentence where a value cannot be meant."""
        name = f"request {self.id!r}"
        if not self.prompt:
            raise ConfigError(f"{name} has an empty prompt. Give it at least one token, such as the begin marker.")
        if self.max_tokens < 1:
            raise ConfigError(f"{name} has max_tokens = {self.max_tokens}. Ask for at least 1 token.")
        self._check_filters(name)
        self._check_penalties(name)
        if not all(self.stop_text):
            raise ConfigError(f"{name} has an empty string in stop_text, which would end every answer. Remove it.")
        if not 0 <= self.top_logprobs <= MOST_TOP:
            raise ConfigError(f"{name} has top_logprobs = {self.top_logprobs}. Ask for 0 to {MOST_TOP}.")
        if not 0 <= (self.prompt_logprobs or 0) <= MOST_TOP:
            raise ConfigError(
                f"{name} has prompt_logprobs = {self.prompt_logprobs}. Ask for 0 to {MOST_TOP}, or None for none."
            )
        self._check_thought(name)

    def _check_filters(self, name: str) -> None:
        if not 0.0 <= self.temperature < math.inf:
            raise ConfigError(f"{name} has temperature = {self.temperature}. Use 0 for the best token, up to about 2.")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"{name} has top_p = {self.top_p}. Use a share above 0 and at most 1 (1 keeps all).")
        if self.top_k < 0:
            raise ConfigError(f"{name} has top_k = {self.top_k}. Use 0 to keep all tokens, or a count.")
        if not 0.0 <= self.min_p <= 1.0:
            raise ConfigError(f"{name} has min_p = {self.min_p}. Use a share of the best probability, 0 (all) to 1.")

    def _check_penalties(self, name: str) -> None:
        for kind in ("presence_penalty", "frequency_penalty"):
            if not -2.0 <= getattr(self, kind) <= 2.0:
                raise ConfigError(f"{name} has {kind} = {getattr(self, kind)}. Use -2 to 2; 0 does nothing.")
        if not 0.0 < self.repetition_penalty < math.inf:
            raise ConfigError(
                f"{name} has repetition_penalty = {self.repetition_penalty}. Use a number above 0; 1 does nothing, "
                "1.1 is much."
            )
        ids = [token for token, _ in self.logit_bias]
        if len(set(ids)) < len(ids) or min(ids, default=0) < 0:
            raise ConfigError(f"{name} has a logit_bias with an id twice or below 0. Name each token once.")
        if not all(bias < math.inf for _, bias in self.logit_bias):
            raise ConfigError(f"{name} has a logit_bias that is no finite number. Use -100 to 100, or -inf to bar.")

    def _check_thought(self, name: str) -> None:
        if self.think_budget is not None and (self.think_budget < 0 or not self.think_close):
            raise ConfigError(
                f"{name} has think_budget = {self.think_budget} and think_close = {self.think_close}. "
                "A budget is at least 0 and needs the ids that close a thought."
            )
        if self.thinking and not self.think_close:
            raise ConfigError(f"{name} thinks and has no think_close. Give the ids that close a thought.")
        if self.recover and set(self.stop) & set(self.think_close):
            raise ConfigError(
                f"{name} has ids both in stop and in think_close. A closed thought goes on: separate them."
            )
        if self.answer_tokens is not None and self.answer_tokens < 1:
            raise ConfigError(f"{name} has answer_tokens = {self.answer_tokens}. Keep at least 1 for the answer.")


def answers_of(request: Request, n: int) -> list[Request]:
    """n requests for n answers: ids "<id>/0" to "<id>/n-1". The first has the request's own seed, the others have seeds
    that follow from it and their number alone; n = 1 is the request as it is. Raises ConfigError for n < 1."""
    if n < 1:
        raise ConfigError(f"request {request.id!r} has n = {n}. Ask for at least 1 answer.")
    if n == 1:
        return [request]
    return [replace(request, id=f"{request.id}/{i}", seed=_seed(request.seed, i)) for i in range(n)]


def _seed(seed: int, number: int) -> int:
    if number == 0:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=8).digest(), "little")


class Event(NamedTuple):
    """One token of one answer. `logprob` is natural, of the model itself: before penalties, temperature and filters.

    A tuple, because one is made for every token, on both sides of the wire.
    """

    id: str
    token: int
    logprob: float
    finish: Finish | None = None
    """Set on an answer's last event."""
    top: Top = ()
    """As many as `top_logprobs` asks for."""
    prompt: tuple[PromptScore, ...] = ()
    """On an answer's first event, where `prompt_logprobs` asks for them: of every token of the prompt but its first."""


@dataclass(frozen=True)
class Completion:
    """One whole answer; where `finish` is "stop", `tokens` ends with the stop token or what completed a stop string."""

    id: str
    tokens: list[int]
    logprobs: list[float]
    """One per token, as in `Event`; those of forced tokens too."""
    finish: Finish
    forced: bool
    """Whether the thought was closed by force: its budget was used, or `recover` had to."""
    prompt_tokens: int
    forced_at: int = -1
    """The first of `tokens` that closes the thought by force; -1 where none does."""
    top: list[Top] = field(default_factory=list)
    """One per token, as in `Event`; empty where none were asked for."""
    stopped_by: str | None = None
    """The string of `stop_text` that ended the answer."""
    cached_tokens: int = 0
    """Tokens of the prompt that were not read again, because the engine knew them."""
    prompt_scores: list[PromptScore] = field(default_factory=list)
    """As in `Event.prompt`."""
