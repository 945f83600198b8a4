"""A scripted agent and user that replay the official actions: a check of the world, not a model.

Each side makes the actions that are its own, in the official order, and hands over with a few words where the next one
is the other's. At the end the agent says what must be said. All rewards must be 1; where they are not, the tools or the
data are not the benchmark's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dokja.tasks.agentic.dialogue import Reply
from dokja.tasks.agentic.domain import Scenario
from dokja.tasks.agentic.prompts import STOPS
from dokja.tasks.agentic.reward import side_of
from dokja.tasks.agentic.world import Side
from dokja.text.chat import Message, ToolCall

NAME = "golden"
"""What stands for a model where the official actions shall be replayed."""


class Golden:
    """Both sides of one scenario; `actions` and `said` may be altered before it begins, to see the reward fall."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.actions: list[Mapping[str, Any]] = scenario.part("actions")
        self.said: list[str] = scenario.part("communicate_info")
        self._done = False

    async def agent(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, key: str, seed: int
    ) -> Reply:
        """The agent's next action, or its words."""
        if (call := self._next("agent")) is not None:
            return Reply(Message("assistant", tool_calls=(call,)))
        if self.actions:
            return Reply(Message("assistant", "Please do the next step on your side."))
        self._done = True
        return Reply(Message("assistant", " ".join(["It is done.", *self.said])))

    async def user(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, key: str, seed: int
    ) -> Reply:
        """The user's next action, or its words."""
        if (call := self._next("user")) is not None:
            return Reply(Message("assistant", tool_calls=(call,)))
        return Reply(Message("assistant", f"Thank you. {STOPS[0]}" if self._done else "Please go on."))

    def _next(self, side: Side) -> ToolCall | None:
        if not self.actions or side_of(self.actions[0]) != side:
            return None
        action = self.actions.pop(0)
        return ToolCall(action["name"], dict(action["arguments"]))
