"""The official `openai` client, sync and async, against scripted engines that speak every chat format: behind the
server itself, and behind a server that another one passes its requests on to."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace as Said
from typing import Any

import openai
import pytest
from live import in_front, in_thread, script
from models_small import CLOCK, WEATHER, segments, tokens

from dokja.text.chat import Message, ToolCall
from dokja.text.styles import STYLES

ASK = [{"role": "user", "content": "오늘 서울 날씨는?"}]
TEXT = "seven 은 7 입니다.\n```py\nx = 1\n```"
THOUGHT = "three plus four"
CALLS = (ToolCall("weather", {"city": "서울", "days": 2}), ToolCall("clock", {}))
TOOLS = [WEATHER, CLOCK]
TALKERS = list(STYLES)
CALLERS = [name for name, style in STYLES.items() if style.tools]


def answers(name: str) -> list[list[int]]:
    """What seeds 0 to 3 write: a thought and an answer, an answer at once, calls behind a thought, calls at once."""
    modes = STYLES[name].modes
    told = [Message("assistant", TEXT, THOUGHT), Message("assistant", TEXT)]
    if STYLES[name].tools:
        told += [Message("assistant", "봅시다", THOUGHT, CALLS), Message("assistant", "", None, CALLS)]
    out = []
    for message in told:
        thinking = message.reasoning is not None and "think" in modes
        thinking = thinking or modes == ("think",)
        tools = tuple(TOOLS) if message.tool_calls else ()
        out.append(tokens(name, segments(name, message, thinking, tools)))
    return out


@pytest.fixture(scope="module", params=["own", "another"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with engines of its own, and one in front of another server."""
    folder: Path = tmp_path_factory.mktemp("models")
    loads = {name: script(name, folder / name, answers(name)) for name in TALKERS}
    with in_thread(loads) as address:
        if request.param == "own":
            yield f"{address}/v1"
            return
        with in_front(f"{address}/v1", TALKERS) as address:
            yield f"{address}/v1"


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, url: str) -> Any:
    """Calls a method of the client; a stream comes back as the list of what it brought."""
    path = {"base_url": url, "api_key": "none", "max_retries": 0, "timeout": 20}

    def sync(method: str, **body: Any) -> Any:
        with openai.OpenAI(**path) as client:
            got = _method(client, method)(**body)
            return list(got) if body.get("stream") else got

    async def asynchronous(method: str, **body: Any) -> Any:
        async with openai.AsyncOpenAI(**path) as client:
            got = await _method(client, method)(**body)
            return [chunk async for chunk in got] if body.get("stream") else got

    return sync if request.param == "sync" else lambda method, **body: asyncio.run(asynchronous(method, **body))


def _method(client: Any, path: str) -> Any:
    for part in path.split("."):
        client = getattr(client, part)
    return client


def chat(ask: Any, name: str, seed: int, **body: Any) -> Any:
    return ask("chat.completions.create", model=name, messages=ASK, seed=seed, **body)


def mode(name: str, thinking: bool) -> dict[str, Any]:
    """How to ask for a mode, where the format knows both."""
    kwargs = {"enable_thinking": thinking}
    return {"extra_body": {"chat_template_kwargs": kwargs}} if len(STYLES[name].modes) == 2 else {}


def whole(chunks: list[Any], index: int = 0) -> Said:
    """A message put together from a stream."""
    out = Said(content="", reasoning="", calls=[], finish=None, usage=None, logprobs=[])
    for chunk in chunks:
        out.usage = chunk.usage or out.usage
        for choice in chunk.choices:
            if choice.index != index:
                continue
            assert out.finish is None, "a chunk behind the last one"
            out.finish = choice.finish_reason
            out.content += choice.delta.content or ""
            out.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            out.logprobs += choice.logprobs.content if choice.logprobs else []
            for call in choice.delta.tool_calls or ():
                if call.id:
                    assert call.index == len(out.calls)
                    out.calls.append([call.function.name, ""])
                out.calls[call.index][1] += call.function.arguments
    return out


def said(completion: Any, index: int = 0) -> Said:
    """The same of an answer in one piece."""
    choice = completion.choices[index]
    return Said(
        content=choice.message.content or "",
        reasoning=getattr(choice.message, "reasoning_content", None) or "",
        calls=[[c.function.name, c.function.arguments] for c in choice.message.tool_calls or ()],
        finish=choice.finish_reason,
        usage=completion.usage,
        logprobs=choice.logprobs.content if choice.logprobs else [],
    )


def test_models_are_listed(ask: Any) -> None:
    assert [m.id for m in ask("models.list").data] == TALKERS
    assert ask("models.retrieve", model="k").id == "k"


@pytest.mark.parametrize("name", TALKERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_stream_and_whole_say_the_same_and_thoughts_stay_out(ask: Any, name: str, seed: int) -> None:
    thinking = STYLES[name].modes == ("think",) or (seed == 0 and "think" in STYLES[name].modes)
    how = mode(name, thinking)
    one = said(chat(ask, name, seed, **how))
    two = whole(chat(ask, name, seed, stream=True, stream_options={"include_usage": True}, **how))
    assert one == two
    assert one.content == TEXT
    reasoned = thinking and seed == 0
    assert one.reasoning == (THOUGHT if reasoned else "")
    assert one.finish == "stop"
    assert (one.usage.completion_tokens_details.reasoning_tokens > 0) == thinking
    assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("seed", [2, 3])
def test_parallel_calls_come_whole_and_in_pieces(ask: Any, name: str, seed: int) -> None:
    how = {"tools": TOOLS, **mode(name, seed == 2)}
    one, two = said(chat(ask, name, seed, **how)), whole(chat(ask, name, seed, stream=True, **how))
    assert [(n, json.loads(a)) for n, a in one.calls] == [(c.name, c.arguments) for c in CALLS]
    assert (one.content, one.reasoning, one.calls, one.finish) == (two.content, two.reasoning, two.calls, two.finish)
    assert (one.content, one.finish) == ("봅시다" if seed == 2 else "", "tool_calls")
    alone = said(chat(ask, name, seed, parallel_tool_calls=False, **how))
    assert alone.calls == one.calls[:1]


def test_results_of_tools_are_read(ask: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "서울"}'}}
    turns = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "맑음"}]},
    ]
    for name in CALLERS:
        got = ask("chat.completions.create", model=name, messages=turns, tools=TOOLS, seed=1, **mode(name, False))
        assert got.choices[0].message.content == TEXT


def test_several_choices_come_apart(ask: Any) -> None:
    one = chat(ask, "dokja", 0, n=3)
    two = chat(ask, "dokja", 0, n=3, stream=True)
    assert sorted(c.index for c in one.choices) == [0, 1, 2]
    for i in range(3):
        a, b = said(one, i), whole(two, i)
        assert (a.content, a.reasoning, a.calls) == (b.content, b.reasoning, b.calls)
    assert one.usage.prompt_tokens == chat(ask, "dokja", 0).usage.prompt_tokens


def test_logprobs_are_those_of_the_content(ask: Any) -> None:
    one = said(chat(ask, "dokja", 0, logprobs=True, top_logprobs=2))
    two = whole(chat(ask, "dokja", 0, logprobs=True, top_logprobs=2, stream=True))
    assert one.logprobs == two.logprobs
    assert b"".join(bytes(t.bytes) for t in one.logprobs).decode() == TEXT
    assert all(len(t.top_logprobs) == 2 and t.top_logprobs[0].logprob == t.logprob for t in one.logprobs)
    assert said(chat(ask, "dokja", 0)).logprobs == []


def test_stop_strings_and_the_limit_end_an_answer(ask: Any) -> None:
    one = said(chat(ask, "dokja", 1, stop=["```", "없는 것"], **mode("dokja", False)))
    assert (one.content, one.finish) == (TEXT.split("```")[0], "stop")
    two = said(chat(ask, "dokja", 1, max_completion_tokens=3, **mode("dokja", False)))
    assert (two.usage.completion_tokens, two.finish) == (3, "length")
    assert TEXT.startswith(two.content)
    assert said(chat(ask, "dokja", 1, max_tokens=3, **mode("dokja", False))) == two


def test_completions_go_on_with_a_text(ask: Any) -> None:
    body = {"model": "exaone3.5", "prompt": ["하나", "둘"], "max_tokens": 500, "seed": 1, "logprobs": 1}
    one, two = ask("completions.create", **body), ask("completions.create", stream=True, **body)
    assert [c.text for c in one.choices] == [TEXT, TEXT]
    assert [c.finish_reason for c in one.choices] == ["stop", "stop"]
    for i in range(2):
        assert "".join(c.text for chunk in two for c in chunk.choices if c.index == i) == TEXT
        tokens_ = [t for chunk in two for c in chunk.choices if c.index == i and c.logprobs for t in c.logprobs.tokens]
        assert tokens_ == one.choices[i].logprobs.tokens


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_responses_stream_what_they_say_whole(ask: Any, seed: int) -> None:
    tools = [{"type": "function", **tool["function"], "strict": False} for tool in TOOLS]
    body = {
        "model": "k", "input": "오늘 서울 날씨는?", "instructions": "짧게", "extra_body": {
            "seed": seed, "chat_template_kwargs": {"enable_thinking": seed in (0, 2)},
        },
    }  # fmt: skip
    if seed >= 2:
        body["tools"] = tools
    one = ask("responses.create", **body)
    events = ask("responses.create", stream=True, **body)
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    last = events[-1].response
    without = {"id", "call_id", "created_at"}
    told = [[i.model_dump(exclude=without) for i in r.output] for r in (one, last)]
    assert told[0] == told[1]
    kinds = [item.type for item in one.output]
    assert kinds == {0: ["reasoning", "message"], 1: ["message"]}.get(
        seed, (["reasoning", "message"] if seed == 2 else []) + ["function_call"] * 2
    )
    assert one.output_text == (TEXT if seed < 2 else "봅시다" if seed == 2 else "")
    deltas: dict[str, str] = {}
    for e in events:
        if e.type.endswith(".delta"):
            deltas[e.item_id] = deltas.get(e.item_id, "") + e.delta
    bodies = [getattr(i, "arguments", None) or i.content[0].text for i in last.output]
    assert list(deltas.values()) == bodies
    assert one.usage.total_tokens == one.usage.input_tokens + one.usage.output_tokens


def test_a_conversation_of_response_items_is_read(ask: Any) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "서울 날씨?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "봐야지"}]},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city": "서울"}'},
        {"type": "function_call_output", "call_id": "c", "output": "맑음"},
    ]
    got = ask("responses.create", model="k", input=items, extra_body={"seed": 1})
    assert got.status == "completed"
    with pytest.raises(openai.BadRequestError, match="keeps no responses"):
        ask("responses.create", model="k", input="x", previous_response_id="resp_1")


REFUSED = [
    ({"model": "nobody"}, openai.NotFoundError, "There is no model"),
    ({"messages": []}, openai.BadRequestError, "messages is empty"),
    ({"messages": [{"role": "wizard", "content": "?"}]}, openai.BadRequestError, "role 'wizard'"),
    ({"temperature": -1}, openai.BadRequestError, "temperature"),
    ({"n": 1000}, openai.BadRequestError, "answers at most"),
    ({"tool_choice": "weather"}, openai.BadRequestError, "tool_choice"),
    ({"tool_choice": "required"}, openai.BadRequestError, "needs tools"),
    ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "Unrecognized request argument supplied: temprature"),
    ({"messages": [{"role": "user", "content": "가" * 5000}]}, openai.BadRequestError, "context of 4096"),
    ({"response_format": {"type": "json_schema"}}, openai.BadRequestError, "needs json_schema.schema"),
]


@pytest.mark.parametrize("body, error, match", REFUSED, ids=lambda x: str(x)[:40].encode("ascii", "replace").decode())
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_served_is_said_before_anything_is_sent(ask, body, error, match, stream) -> None:
    with pytest.raises(error, match=match) as refused:
        ask("chat.completions.create", **{"model": "dokja", "messages": ASK, **body}, stream=stream)
    assert refused.value.body["type"] == "invalid_request_error"


def test_embeddings_are_refused_with_a_sentence(ask: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="gives no embeddings"):
        ask("embeddings.create", model="dokja", input="글")
