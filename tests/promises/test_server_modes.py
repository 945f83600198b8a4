"""No reasoning in `content`, streaming or not, in either mode, in any chat format, whatever the conversation was."""

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from models_small import CLOCK, WEATHER, facts, segments, tokenizer, tokens

from dokja.engine.api import Event, Request
from dokja.serve.api.chat_parts import Choice, chunks
from dokja.serve.asking import Ask, plan
from dokja.serve.turn import Done, answer
from dokja.serve.wire import Ending
from dokja.text.chat import Message, ToolCall
from dokja.text.styles import STYLES

SECRET = "Ω"
"""In every thought and in nothing else."""
WORDS = [
    "가나다",
    "seven",
    "</think>",
    "<think>",
    "<|end|>",
    "[|endofturn|]",
    "\n\n",
    "{",
    "👍",
    "<tool_call>",
    " ",
    "```",
]
MODES = [(name, mode == "think") for name, style in STYLES.items() for mode in style.modes]
TOOLS = (WEATHER, CLOCK)
PER_MODE = 112  # nine modes: more than a thousand conversations


class Written:
    """An engine client whose engine writes these tokens, a few at a time."""

    def __init__(self, ids: list[int], rng: random.Random) -> None:
        self.ids, self._rng = ids, rng

    async def batches(self, request: Request, **how: Any) -> AsyncGenerator[list[Any], None]:
        at = 0
        while at < len(self.ids):
            size = self._rng.randint(1, 4)
            yield [Event(request.id, token, -1.0) for token in self.ids[at : at + size]]
            at += size
        yield [Ending("stop")]


def text(rng: random.Random, longest: int = 6) -> str:
    return "".join(rng.choice(WORDS) for _ in range(rng.randint(1, longest)))


def conversation(rng: random.Random, name: str, thinking: bool) -> tuple[list[Message], Message]:
    """Some turns, and the answer that the model will give."""
    turns = [Message("system", text(rng))] if rng.random() < 0.5 else []
    for _ in range(rng.randint(0, 3)):
        turns.append(Message("user", text(rng)))
        reasoning = f"{SECRET}{text(rng)}" if rng.random() < 0.5 else None
        turns.append(Message("assistant", text(rng), reasoning))
    turns.append(Message("user", text(rng)))
    calls: tuple[ToolCall, ...] = ()
    if STYLES[name].tools and rng.random() < 0.3:
        calls = (ToolCall("weather", {"city": rng.choice(["서울", 'a"b', "{"])}), ToolCall("clock", {}))[
            : rng.randint(1, 2)
        ]
    plain = [w for w in WORDS if not w.startswith(("<", "["))]
    said = "A" + "".join(rng.choice(plain) for _ in range(rng.randint(0, 5))) + "A"
    thought = f"{SECRET}{''.join(rng.choice(plain) for _ in range(3))}{SECRET}" if thinking else None
    return turns, Message("assistant", said, thought, calls)


async def ask(name: str, thinking: bool, seed: int) -> None:
    rng = random.Random(seed)
    turns, wanted = conversation(rng, name, thinking)
    tools = TOOLS if wanted.tool_calls or (STYLES[name].tools and rng.random() < 0.3) else ()
    cuts = tuple(rng.randint(0, 99) for _ in range(rng.randint(0, 6)))
    ids = tokens(name, segments(name, wanted, thinking, tools), cuts)
    planned = plan(Ask(turns, {}, tools=tools, thinking=thinking, seed=seed), facts(name), "r")
    assert planned.thinking == thinking, "the state of thinking is that of the prompt"
    whole, streamed = Choice(0, tokenizer(name)), []
    view = Choice(0, tokenizer(name))
    async for item in answer(Written(ids, rng), facts(name), planned):
        streamed += list(chunks(view, item))
        if isinstance(item, Done):
            whole.finish = item.finish
        else:
            whole.add(item)
    message = whole.whole()["message"]
    normal = tokenizer(name).normal
    for content in (message["content"] or "", "".join(c["delta"].get("content") or "" for c in streamed)):
        assert content == normal(wanted.content)
        assert SECRET not in content
    for reasoning in (
        message.get("reasoning_content") or "",
        "".join(c["delta"].get("reasoning_content") or "" for c in streamed),
    ):
        assert reasoning == normal((wanted.reasoning or "").strip())
    assert [c["function"]["name"] for c in message.get("tool_calls", [])] == [c.name for c in wanted.tool_calls]
    assert sum(c["finish_reason"] is not None for c in streamed) == 1


@pytest.mark.parametrize("name, thinking", MODES)
def test_no_thought_is_ever_content(name: str, thinking: bool) -> None:
    async def all_of_them() -> None:
        for seed in range(PER_MODE):
            await ask(name, thinking, seed)

    asyncio.run(all_of_them())
