"""The promise of `test_server_modes`, seen from outside: through the app, over HTTP, as a stream and in one piece."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from live import in_thread, script
from models_small import segments, tokenizer, tokens
from test_server_modes import MODES, SECRET, TOOLS, conversation

from dokja.text.chat import Message
from dokja.text.styles import STYLES

PER_MODE = 8
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Talk:
    """What is asked, and what the model writes."""

    turns: list[Message]
    wanted: Message
    tools: tuple[dict[str, Any], ...]
    ids: list[int]


def talks(name: str, thinking: bool) -> list[Talk]:
    made = []
    for seed in range(PER_MODE):
        rng = random.Random(1000 + seed)
        turns, wanted = conversation(rng, name, thinking)
        tools = TOOLS if wanted.tool_calls or (STYLES[name].tools and seed % 3 == 0) else ()
        cuts = tuple(rng.randint(0, 99) for _ in range(rng.randint(0, 6)))
        made.append(Talk(turns, wanted, tools, tokens(name, segments(name, wanted, thinking, tools), cuts)))
    return made


ALL = {(name, thinking): talks(name, thinking) for name, thinking in MODES}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    loads = {
        f"{name}-{'think' if thinking else 'direct'}": script(
            name, tmp_path_factory.mktemp("m"), [talk.ids for talk in made], slots=16
        )
        for (name, thinking), made in ALL.items()
    }
    with in_thread(loads) as at:
        yield at


def plain(message: Message) -> dict[str, Any]:
    said = {"role": message.role, "content": message.content}
    return {**said, "reasoning_content": message.reasoning} if message.reasoning is not None else said


@dataclass
class Seen:
    content: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)


def joined(lines: Iterator[str]) -> Seen:
    """A stream's deltas, put together as its reader would."""
    seen = Seen()
    for line in lines:
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            delta = choice["delta"]
            seen.content += delta.get("content") or ""
            seen.reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                if call["index"] == len(seen.calls):
                    seen.calls.append([call["function"]["name"], ""])
                seen.calls[call["index"]][1] += call["function"].get("arguments") or ""
            seen.finish += [choice["finish_reason"]] if choice["finish_reason"] else []
    return seen


def whole(answer: dict[str, Any]) -> Seen:
    (choice,) = answer["choices"]
    message = choice["message"]
    calls = [[c["function"]["name"], c["function"]["arguments"]] for c in message.get("tool_calls") or ()]
    reasoning = message.get("reasoning_content") or ""
    return Seen(message["content"] or "", reasoning, calls, [choice["finish_reason"]])


@pytest.mark.parametrize("name, thinking", MODES)
def test_no_thought_is_content_over_http(url: str, name: str, thinking: bool) -> None:
    normal = tokenizer(name).normal
    with httpx.Client(base_url=url, timeout=30) as http:
        for seed, talk in enumerate(ALL[name, thinking]):
            body = {
                "model": f"{name}-{'think' if thinking else 'direct'}", "seed": seed, "temperature": 0,
                "messages": [plain(message) for message in talk.turns],
                "chat_template_kwargs": {"enable_thinking": thinking}, **({"tools": talk.tools} if talk.tools else {}),
            }  # fmt: skip
            one = http.post(PATH, json=body)
            assert one.status_code == 200, one.text
            with http.stream("POST", PATH, json={**body, "stream": True}) as answer:
                streamed = joined(answer.iter_lines())
            assert whole(one.json()) == streamed
            assert (streamed.content, SECRET in streamed.content) == (normal(talk.wanted.content), False)
            assert streamed.reasoning == normal((talk.wanted.reasoning or "").strip())
            assert [call for call, _ in streamed.calls] == [call.name for call in talk.wanted.tool_calls]
            assert streamed.finish == ["tool_calls" if talk.wanted.tool_calls else "stop"]
