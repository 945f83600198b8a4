"""Agent, user and world in turns.

    greeting ─► user ─► agent ─► … ─► user writes a stop token
                 │ ▲      │ ▲
               tools    tools          (whoever calls a tool goes on when it has answered)

A step is a message or the answers to its calls; 200 steps or 10 errors of tools end a conversation, which then earns
nothing. The transcript is all that the reward needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, get_args

from dokja.tasks.agentic.domain import Domain, Scenario
from dokja.tasks.agentic.prompts import GREETING, STOPS, agent_prompt, user_prompt
from dokja.tasks.agentic.world import Side
from dokja.text.chat import Message, ToolCall

MAX_STEPS, MAX_ERRORS = 200, 10
Ending = Literal["user_stop", "max_steps", "too_many_errors", "agent_error", "user_error", "agent_cut", "user_cut"]
"""How a conversation ended: as it should, at a limit, at a message that was empty or could not be read, or at one that
a limit of tokens cut off."""
ENDINGS: tuple[str, ...] = get_args(Ending)


@dataclass(frozen=True)
class Reply:
    """What a model answered; `finish` "length" where a limit of tokens cut it off. Token counts as far as known."""

    message: Message
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0
    raw: str = ""
    """Everything the model wrote, markers included, where that is known."""


class Chat(Protocol):
    """Anything that answers messages with a message, which may call tools."""

    async def __call__(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, key: str, seed: int
    ) -> Reply:
        """`key` names the question, the same after any restart; `seed` goes with it."""
        ...


@dataclass(frozen=True)
class Turn:
    """One entry of a transcript. Of "tool": `to` is who called, `call` which tool, `error` whether it refused."""

    who: Literal["agent", "user", "tool"]
    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    to: Side | None = None
    call: str = ""
    error: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is empty is left out."""
        said = {**asdict(self), "calls": [asdict(call) for call in self.calls]}
        return {key: value for key, value in said.items() if value or key in ("who", "content")}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Turn:
        """Read an entry of a record."""
        calls = tuple(ToolCall(call["name"], call["arguments"]) for call in raw.get("calls", ()))
        return cls(**{**raw, "calls": calls})


@dataclass
class Dialogue:
    """A conversation and what it took."""

    turns: list[Turn] = field(default_factory=list)
    ended: Ending | None = None
    replies: dict[Side, list[Reply]] = field(default_factory=lambda: {"agent": [], "user": []})


async def hold(
    domain: Domain,
    scenario: Scenario,
    agent: Chat,
    user: Chat,
    *,
    key: str = "",
    seed: int = 0,
    max_steps: int = MAX_STEPS,
    max_errors: int = MAX_ERRORS,
) -> Dialogue:
    """One conversation from the greeting to its end. Whatever `agent` and `user` raise comes through."""
    world = domain.world()
    world.set_up(scenario.initial_state)
    chats: dict[Side, Chat] = {"agent": agent, "user": user}
    told: dict[Side, str] = {"agent": agent_prompt(domain), "user": user_prompt(domain, scenario)}
    talk = Dialogue([Turn("agent", GREETING)])
    side: Side = "user"
    steps = errors = 0
    while talk.ended is None:
        number = len(talk.turns)
        reply = await chats[side](
            view(talk.turns, side, told[side]), world.schemas(side), key=f"{key}/{number}", seed=seed + number
        )
        talk.replies[side].append(reply)
        said = reply.message
        content = said.content.strip()
        talk.turns.append(Turn(side, content, said.reasoning or "", said.tool_calls))
        steps += 1
        if reply.finish == "length":
            talk.ended = "agent_cut" if side == "agent" else "user_cut"
        elif not content and not said.tool_calls:
            talk.ended = "agent_error" if side == "agent" else "user_error"
        elif said.tool_calls:
            for call in said.tool_calls:
                answer, refused = world.call(side, call.name, call.arguments)
                errors += refused
                talk.turns.append(Turn("tool", answer, to=side, call=call.name, error=refused))
            steps += 1
        elif side == "user" and any(stop in content for stop in STOPS):
            talk.ended = "user_stop"
        else:
            side = "user" if side == "agent" else "agent"
        if steps >= max_steps and talk.ended in (None, "user_stop"):
            talk.ended = "max_steps"
        if errors >= max_errors and talk.ended in (None, "user_stop", "max_steps"):
            talk.ended = "too_many_errors"
    return talk


def view(turns: Sequence[Turn], side: Side, told: str) -> list[Message]:
    """A conversation as one side sees it: itself as the assistant, the other's words as the user's, its own calls and
    their answers and nobody else's."""
    seen = [Message("system", told)]
    for turn in turns:
        if turn.who == side:
            seen.append(Message("assistant", turn.content, turn.reasoning or None, turn.calls))
        elif turn.who == "tool" and turn.to == side:
            seen.append(Message("tool", turn.content))
        elif turn.who != "tool" and not turn.calls:
            seen.append(Message("user", turn.content))
    return seen
