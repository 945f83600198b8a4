"""How long a thought may be, from the effort that somebody asks for (no torch).

The room is what a request may write: `max_tokens`, or what the context leaves. A budget given outright wins over every
effort; 0 answers at once.

| effort | thinks | budget                                              |
|--------|--------|-----------------------------------------------------|
| none   | no     |                                                     |
| low    | yes    | an eighth of the room, 1,024 at most                |
| medium | yes    | three eighths of the room, 8,192 at most            |
| high   | yes    | the whole room but what an answer needs             |

A model that can only think has an empty thought with `none`; one that cannot think answers at once with all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from dokja.errors import ConfigError
from dokja.text.chat import MODES, Mode

Effort = Literal["none", "low", "medium", "high"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)


@dataclass(frozen=True)
class Thought:
    """Whether to ask for a thought, and the tokens it may have (None where there is none)."""

    thinking: bool
    budget: int | None


def answer_room(room: int) -> int:
    """Tokens kept for the answer behind a thought: a quarter of the room, 1 to 1,024."""
    return max(1, min(room // 4, 1024))


def thought(
    effort: Effort, max_tokens: int, context: int, *, budget: int | None = None, modes: Collection[Mode] = MODES
) -> Thought:
    """The table above. `context`: tokens that the prompt leaves of it; `modes`: those the model's family knows.

    Raises ConfigError for an effort or a budget that there is not.
    """
    if effort not in EFFORTS:
        raise ConfigError(f"There is no effort {effort!r}. Use one of {', '.join(EFFORTS)}.")
    if budget is not None and budget < 0:
        raise ConfigError(f"A thinking budget of {budget} cannot be. Use 0 to answer at once, or a count of tokens.")
    if "think" not in modes:
        return Thought(False, None)
    room = max(1, min(max_tokens, context))
    if budget is None:
        most = max(0, room - answer_room(room))
        budget = {"none": 0, "low": min(room // 8, 1024), "medium": min(room * 3 // 8, 8192), "high": most}[effort]
        budget = max(budget, effort != "none")
    if budget == 0 and "direct" in modes:
        return Thought(False, None)
    return Thought(True, budget)
