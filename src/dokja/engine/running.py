"""One answer in the making: what is written of it, when it ends, and what its request allows at the next places.

    thought (open_thought)              answer
    written by the model | closing ids | written by the model until a stop token, a stop string or the limit
                         ^ close_from, where nothing else closes it sooner

Everything about coming places is a function of what is written and of the drafts assumed to follow it, so that a place
has the same rules whether it is reached by drafts or not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dokja.engine.api import Completion, Finish, PromptScore, Request, Top
from dokja.engine.effort import answer_room
from dokja.engine.penalties import Penalties
from dokja.engine.stops import Watch
from dokja.errors import DokjaError
from dokja.text.chat import CALL
from dokja.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

_NEVER = sys.maxsize


class Matcher(Protocol):
    """A grammar at work: which tokens may come. It hears and sees tokens of the answer alone, never of a thought."""

    def allowed(self, drafts: Sequence[int]) -> Tensor | None:
        """Bit mask int32 [ceil(V / 32)] (token t is bit t % 32 of word t // 32) of what may follow the tokens accepted
        so far and then these drafts; None where anything may. Where the drafts themselves are not allowed any mask
        will do, for such rows are refused."""
        ...

    def accept(self, token: int) -> None:
        """The answer has grown by this token."""
        ...

    @property
    def stuck(self) -> bool:
        """Whether it could not go on, so that nothing but a stop token was allowed where the answer is not whole."""
        ...


@dataclass(slots=True)
class Running:
    """An answer at work or in the queue."""

    request: Request
    limit: int
    """Tokens it may write: max_tokens, or what the context leaves."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    open_thought: bool = field(init=False)
    """Whether the thought is not closed yet."""
    tokenizer: Tokenizer | None = None
    """Reads the answer for stop strings and white space."""
    matcher: Matcher | None = None
    """Of the request's grammar; it need not know of thoughts."""
    top: list[Top] = field(default_factory=list)
    penalties: Penalties | None = field(init=False)
    close_from: int = field(init=False)
    """The place in `tokens` where closing ids begin."""
    forced_at: int = field(init=False, default=-1)
    stopped_by: str | None = field(init=False, default=None)
    cached_tokens: int = 0
    prompt_scores: list[PromptScore] = field(default_factory=list)
    """Of the prompt as far as it was read, where the request asks for them."""
    _blank: bool = field(init=False)
    """Whether stop tokens have to wait for the answer to hold something."""
    _watch: Watch | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Raises DokjaError for stop strings where nobody can read tokens."""
        r = self.request
        self.open_thought = r.thinking or r.think_budget is not None
        self.penalties = Penalties.of(r)
        self._blank = r.recover and self.open_thought and r.grammar is None
        if r.stop_text:
            if self.tokenizer is None:
                raise DokjaError(f"Request {r.id!r} has stop strings, and this engine has no tokenizer. Give it one.")
            self._watch = Watch(self.tokenizer, r.stop_text)
        self.close_from = _NEVER if r.think_budget is None else r.think_budget
        if r.recover and self.open_thought:
            kept = (r.answer_tokens or answer_room(self.limit)) + len(r.think_close)
            self.close_from = max(0, min(self.close_from, self.limit - kept))

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.request.prompt) + len(self.tokens)

    @property
    def unscored(self) -> bool:
        """Whether tokens of the prompt have still to be scored."""
        r = self.request
        return r.prompt_logprobs is not None and len(self.prompt_scores) < len(r.prompt) - 1

    def ruled(self, rows: int) -> bool:
        """Whether anything but scores and settings may decide what comes at the next places."""
        closing = self.open_thought and self.close_from < len(self.tokens) + rows
        blank = self._blank and (rows > 1 or not self.open_thought)
        return closing or blank or self.matcher is not None or self.penalties is not None

    def must_come(self, drafts: Sequence[int] = ()) -> int:
        """The id that has to follow what is written and then `drafts`, because an open thought is being closed; -1
        where there is none."""
        if not self.open_thought:
            return -1
        close, over = self.request.think_close, len(self.tokens) + len(drafts) - self.close_from
        if not 0 <= over < len(close) or close[-1] in drafts[: max(0, self.close_from - len(self.tokens))]:
            return -1
        return close[over]

    def answer_of(self, drafts: Sequence[int]) -> Sequence[int] | None:
        """What of the drafts behind what is written is of the answer; None where the thought is open after them."""
        if not self.open_thought:
            return drafts
        close, ahead = self.request.think_close, self.close_from - len(self.tokens)
        own = drafts[: max(0, ahead)]
        if close[-1] in own:
            return drafts[own.index(close[-1]) + 1 :]
        return drafts[ahead + len(close) :] if len(drafts) >= ahead + len(close) else None

    def bars(self, answer: Sequence[int]) -> bool:
        """Whether a stop token cannot follow what is written and then these drafts of the answer: it is empty yet."""
        return self._blank and all(map(self._is_space, answer))

    def closes_with(self, token: int) -> int:
        """The id to write in place of a token just drawn, which would end an open thought without an answer; -1 where
        the token stays."""
        r = self.request
        if not (self.open_thought and r.recover and token in r.stop):
            return -1
        self.close_from = len(self.tokens)
        return r.think_close[0]

    def take(self, token: int, logprob: float, top: Top = ()) -> Finish | None:
        """Writes a token -> why the answer ends with it, or None."""
        if self.open_thought:
            self._think(token)
        else:
            self._blank = self._blank and self._is_space(token)
            if self.matcher is not None:
                self.matcher.accept(token)
            if self._watch is not None:
                self.stopped_by = self._watch.feed(token)
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if self.penalties is not None:
            self.penalties.wrote(token)
        if self.request.top_logprobs:
            self.top.append(top)
        if token in self.request.stop or self.stopped_by is not None:
            return "abort" if self.matcher is not None and self.matcher.stuck else "stop"
        return "length" if len(self.tokens) >= self.limit else None

    def _think(self, token: int) -> None:
        close, over = self.request.think_close, len(self.tokens) - self.close_from
        if over < 0:  # the model itself may close it
            self.open_thought = token != close[-1]
        else:
            self.forced_at, self.open_thought = self.close_from, over + 1 < len(close)

    def _is_space(self, token: int) -> bool:
        """Whether a token shows nothing: white space, or a marker that begins no tool call."""
        if self.tokenizer is None or token >= self.tokenizer.vocab_size:
            return False
        if token in self.tokenizer.specials.values():
            return token != self.tokenizer.specials.get(CALL)
        return self.tokenizer.token_bytes(token).decode("utf-8", "replace").isspace()

    def completion(self, finish: Finish) -> Completion:
        """What it has come to."""
        r, forced = self.request, self.forced_at >= 0
        return Completion(
            r.id, self.tokens, self.logprobs, finish, forced, len(r.prompt), self.forced_at, self.top, self.stopped_by,
            self.cached_tokens, self.prompt_scores,
        )  # fmt: skip
