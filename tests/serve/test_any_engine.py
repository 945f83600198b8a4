"""What holds of any engine behind the API, whatever it writes: the official `openai` client against a small random
model, once with our engine and once with a server in front of that server.

    DOKJA_ENGINE=llama.cpp=http://127.0.0.1:8080/v1 DOKJA_MODEL=its-name pytest tests/serve/test_any_engine.py

runs it against a server in front of another engine as well; what fails there is what that engine cannot.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest
from live import in_front
from models_small import WEATHER
from test_contract import said, whole
from test_serve_command import SCHEMA, Process, checkpoint

ASK = [{"role": "user", "content": "three plus four"}]
OTHER = os.environ.get("DOKJA_ENGINE")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with an engine of its own."""
    process = Process(f"tiny={checkpoint(tmp_path_factory.mktemp('tiny'))}", "--slots", "8", "--no-pages")
    yield process.url
    process.end()


@pytest.fixture(scope="module", params=["own", "in front", *([OTHER] if OTHER else [])])
def client(request: pytest.FixtureRequest, own: str) -> Iterator[openai.OpenAI]:
    name = os.environ.get("DOKJA_MODEL", "tiny") if request.param == OTHER else "tiny"
    if request.param == "own":
        with openai.OpenAI(base_url=own, api_key="none", max_retries=0, timeout=60) as found:
            yield found
        return
    with in_front(own if request.param == "in front" else request.param, [name]) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def chat(client: openai.OpenAI, **body: Any) -> Any:
    body = {"messages": ASK, "temperature": 1.0, "seed": 5, "max_tokens": 40, **body}
    got = client.chat.completions.create(model=client.models.list().data[0].id, **body)
    return list(got) if body.get("stream") else got


def same(one: Any, two: Any) -> None:
    assert (one.content, one.reasoning, one.calls, one.finish) == (two.content, two.reasoning, two.calls, two.finish)


@pytest.mark.parametrize("seed", range(3))
def test_stream_and_whole_are_the_same(client: openai.OpenAI, seed: int) -> None:
    one, two = said(chat(client, seed=seed)), whole(chat(client, seed=seed, stream=True))
    same(one, two)
    assert one.finish in ("stop", "length")
    assert "<think>" not in one.content


def test_usage_counts_and_comes_when_asked_for(client: openai.OpenAI) -> None:
    one = said(chat(client, max_tokens=12)).usage
    assert 0 < one.completion_tokens <= 12
    assert one.total_tokens == one.prompt_tokens + one.completion_tokens
    assert one.completion_tokens_details.reasoning_tokens <= one.completion_tokens
    two = whole(chat(client, max_tokens=12, stream=True, stream_options={"include_usage": True})).usage
    assert (two.completion_tokens, two.prompt_tokens) == (one.completion_tokens, one.prompt_tokens)
    assert whole(chat(client, max_tokens=12, stream=True)).usage is None


def test_prompts_are_counted(client: openai.OpenAI) -> None:
    assert said(chat(client)).usage.prompt_tokens > 0


def test_a_seed_is_heard_and_choices_differ(client: openai.OpenAI) -> None:
    assert said(chat(client, seed=7)).content == said(chat(client, seed=7)).content
    got = chat(client, n=3, seed=7)
    assert len({said(got, i).content + said(got, i).reasoning for i in range(3)}) > 1


def test_stop_strings_stay_out(client: openai.OpenAI) -> None:
    free = said(chat(client, reasoning_effort="none", max_tokens=80)).content
    stop = re.findall(r"[a-z ]{2}", free)[-1]
    assert said(chat(client, reasoning_effort="none", max_tokens=80, stop=stop)).content == free.split(stop)[0]


def test_logprobs_belong_to_the_content(client: openai.OpenAI) -> None:
    got = said(chat(client, logprobs=True, top_logprobs=2, reasoning_effort="none"))
    assert 0 < len(got.logprobs) <= got.usage.completion_tokens
    assert all(t.logprob <= 0 for t in got.logprobs)
    assert all(len(t.top_logprobs) in (2, 3) for t in got.logprobs)


def test_json_is_valid_under_its_schema(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    got = said(chat(client, response_format=form, max_tokens=400, reasoning_effort="none"))
    jsonschema.validate(json.loads(got.content), SCHEMA)


def test_an_answer_under_a_schema_or_a_call_comes(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    tool = {**WEATHER, "function": {**WEATHER["function"], "parameters": SCHEMA}}
    how = {"tools": [tool], "response_format": form, "max_tokens": 600, "reasoning_effort": "none"}
    for seed in range(4):
        one = said(chat(client, seed=seed, **how))
        assert bool(one.calls) != bool(one.content.strip())
        for text in [arguments for _, arguments in one.calls] or [one.content]:
            jsonschema.validate(json.loads(text), SCHEMA)


def test_a_call_that_has_to_come_comes(client: openai.OpenAI) -> None:
    tool = {**WEATHER, "function": {**WEATHER["function"], "parameters": SCHEMA}}
    choice = {"type": "function", "function": {"name": "weather"}}
    how = {"tools": [tool], "tool_choice": choice, "max_tokens": 400, "reasoning_effort": "none"}
    one = said(chat(client, **how))
    assert (one.finish, [name for name, _ in one.calls]) == ("tool_calls", ["weather"])
    jsonschema.validate(json.loads(one.calls[0][1]), SCHEMA)
    same(one, whole(chat(client, stream=True, **how)))


def test_texts_are_gone_on_with(client: openai.OpenAI) -> None:
    name = client.models.list().data[0].id
    body = {"model": name, "prompt": "three plus", "max_tokens": 8, "seed": 1, "logprobs": 1, "temperature": 1.0}
    one, two = client.completions.create(**body), list(client.completions.create(stream=True, **body))
    assert "".join(c.text for chunk in two for c in chunk.choices) == one.choices[0].text
    assert all(p <= 0 for p in one.choices[0].logprobs.token_logprobs)


def test_prompts_are_echoed_with_their_scores(client: openai.OpenAI) -> None:
    name = client.models.list().data[0].id
    body = {"model": name, "prompt": "three plus four", "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    got, chunks = client.completions.create(**body), list(client.completions.create(stream=True, **body))
    said = got.choices[0].logprobs
    assert got.choices[0].text.startswith("three plus four")
    assert "".join(c.text for chunk in chunks for c in chunk.choices) == got.choices[0].text
    assert len(said.tokens) == len(said.token_logprobs) == got.usage.prompt_tokens + 1
    assert said.token_logprobs[0] is None and all(p <= 0 for p in said.token_logprobs[1:])
    assert all(max(top.values()) >= p for top, p in zip(said.top_logprobs[1:], said.token_logprobs[1:], strict=True))


def test_responses_are_made_of_chats(client: openai.OpenAI) -> None:
    name = client.models.list().data[0].id
    body = {"model": name, "input": "three plus four", "max_output_tokens": 20, "extra_body": {"seed": 4}}
    one, events = client.responses.create(**body), list(client.responses.create(stream=True, **body))
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert events[-1].response.output_text == one.output_text


def test_what_cannot_be_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        chat(client, messages=[{"role": "user", "content": "three " * 9000}])
    with pytest.raises(openai.BadRequestError):
        chat(client, temperature=-1)
