"""One answer in the making: what is written of it, when it ends, and which tokens a thinking budget forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dokja.engine.api import Completion, Finish, Request


@dataclass(slots=True)
class Running:
    """An answer at work or in the queue."""

    request: Request
    limit: int
    """Tokens it may write: max_tokens, or what the context leaves."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    open_thought: bool = False
    """Whether the budget may still have to close the thought."""
    forced: bool = False

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.request.prompt) + len(self.tokens)

    def must_come(self, drafts: Sequence[int] = ()) -> int:
        """The id that has to follow what is written and then `drafts`, because an open thought has used its budget; -1
        where there is none."""
        request, written = self.request, len(self.tokens)
        if not self.open_thought or request.think_budget is None:
            return -1
        close, over = request.think_close, written + len(drafts) - request.think_budget
        if not 0 <= over < len(close) or close[-1] in drafts[: max(0, request.think_budget - written)]:
            return -1
        return close[over]

    def take(self, token: int, logprob: float) -> Finish | None:
        """Writes a token -> why the answer ends with it, or None."""
        request = self.request
        if self.open_thought and request.think_budget is not None:
            over = len(self.tokens) - request.think_budget
            if over < 0:  # the model itself may close it
                self.open_thought = token != request.think_close[-1]
            else:
                self.forced, self.open_thought = True, over + 1 < len(request.think_close)
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if token in request.stop:
            return "stop"
        return "length" if len(self.tokens) >= self.limit else None

    def completion(self, finish: Finish) -> Completion:
        """What it has come to."""
        request = self.request
        return Completion(request.id, self.tokens, self.logprobs, finish, self.forced, len(request.prompt))
