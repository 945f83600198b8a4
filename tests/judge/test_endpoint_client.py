"""The client against a server that misbehaves: what is asked again, when, and what ends all."""

import asyncio
import random

import pytest
from endpoint_scripted import Answer, fails, says, serving, streams, words

from dokja.errors import ConfigError
from dokja.judge.endpoint import client as client_module
from dokja.judge.endpoint.client import TRIES, Client, Failed, Stopped
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.pace import Pace, retry_after
from dokja.judge.endpoint.spending import Limits, Spending
from dokja.judge.records import Usage


def ask(served, *texts, stream=False, first_wait=0.001, **row):
    """(what came back or was raised, for each text), all at once."""
    endpoint = Endpoint(name="e", base_url=served.url, model="m", **row)

    async def one(client, text):
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        return await client.chat(body, random.Random(0))

    async def main():
        async with Client(endpoint, stream=stream, first_wait=first_wait) as client:
            return await asyncio.gather(*(one(client, text) for text in texts), return_exceptions=True)

    return asyncio.run(main())


def test_connections_are_kept_and_no_more_requests_run_than_allowed():
    with serving(lambda body, n: says(words(body), delay=0.01)) as served:
        found = ask(served, *map(str, range(24)), concurrency=4)
    assert [reply.content for reply, _ in found] == [str(i) for i in range(24)]
    assert served.most_at_once == 4 and served.connections == 4


@pytest.mark.parametrize(
    "bad",
    [
        *(fails(status) for status in (408, 409, 425, 429, 500, 502, 503, 504)),
        Answer(drop=True),
        Answer(body=b"<html>busy</html>"),
        Answer(body=b'{"choices": []}'),
        says(None),
    ],
)
def test_what_may_pass_is_asked_again(bad):
    with serving(lambda body, n: bad if n < 2 else says("A")) as served:
        ((reply, times),) = ask(served, "x")
    assert reply.content == "A" and times.tries == len(served.asked) == 3


def test_an_answer_that_takes_too_long_is_asked_again():
    with serving(lambda body, n: says("A", delay=0.0 if n else 5.0)) as served:
        ((reply, times),) = ask(served, "x", timeout=0.15)
    assert reply.content == "A" and times.tries == 2 and times.seconds < 2


def test_after_some_tries_a_request_has_failed_and_says_why():
    with serving(lambda body, n: fails(500, "boom")) as served:
        (found,) = ask(served, "x")
    assert isinstance(found, Failed) and "500: boom" in str(found) and f"{TRIES} tries" in str(found)
    assert len(served.asked) == TRIES


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_is_not_asked_again(status):
    with serving(lambda body, n: fails(status, "no such thing")) as served:
        (found,) = ask(served, "x")
    assert isinstance(found, Failed) and "no such thing" in str(found) and len(served.asked) == 1
    assert not found.context


@pytest.mark.parametrize(
    ("status", "sentence"), [(401, "--key-env"), (403, "--key-env"), (404, "no model 'm'"), (302, "OpenAI API")]
)
def test_what_no_other_request_would_mend_stops_everything(status, sentence):
    with serving(lambda body, n: fails(status, "away", location="http://127.0.0.1:1/")) as served:
        (found,) = ask(served, "x")
    assert isinstance(found, Stopped) and sentence in str(found) and len(served.asked) == 1


def test_the_key_travels_in_its_header_alone(monkeypatch):
    monkeypatch.setenv("E_KEY", "s3cret")
    with serving(lambda body, n: says("A") if n else fails(401)) as served:
        (found,) = ask(served, "x", key_env="E_KEY")
        assert "s3cret" not in str(found) and "E_KEY" in str(found)
        ask(served, "x", key_env="E_KEY")
    assert [h["authorization"] for h in served.headers] == ["Bearer s3cret"] * 2


def test_retry_after_holds_back_everybody_and_costs_no_try():
    def script(body, n):
        if words(body) == "first" and n < 1:
            return fails(429, retry_after="0.3")
        return says("A", delay=0.1 if words(body) == "first" else 0.05)

    with serving(script) as served:
        found = ask(served, "first", *(f"later {i}" for i in range(3)), concurrency=2)
    assert all(reply.content == "A" for reply, _ in found)
    after = [at for at in served.at if at > served.at[0] + 0.15]
    assert after and min(after) >= served.at[0] + 0.25  # two were under way; the others waited


def test_more_limits_than_tries_are_borne(monkeypatch):
    monkeypatch.setattr(client_module, "LONGEST_WAIT", 0.002)
    with serving(lambda body, n: fails(429) if n < TRIES + 3 else says("A")) as served:
        ((_, times),) = ask(served, "x")
    assert times.tries == TRIES + 4


def test_a_pause_of_hours_or_an_empty_account_ends_the_run():
    with serving(lambda body, n: fails(429, "later", retry_after="7200")) as served:
        (found,) = ask(served, "x")
    assert isinstance(found, Stopped) and "7200 s" in str(found)
    with serving(lambda body, n: fails(429, "no money", code="insufficient_quota")) as served:
        (found,) = ask(served, "x")
    assert isinstance(found, Stopped) and "no more quota" in str(found)


@pytest.mark.parametrize(
    "said", ["This model's maximum context length is 4096 tokens", "request exceeds the available context size"]
)
def test_a_conversation_that_is_too_long_is_told_apart(said):
    with serving(lambda body, n: fails(400, said)) as served:
        (found,) = ask(served, "x")
    assert isinstance(found, Failed) and found.context


def test_a_stream_adds_up_and_its_first_token_is_timed():
    parts = [{"role": "assistant", "content": ""}, {"reasoning_content": "R"}, {"content": "A"}, {"content": "B"}]
    with serving(lambda body, n: streams(*parts, gap=0.05)) as served:
        ((reply, times),) = ask(served, "x", stream=True)
    assert (reply.reasoning, reply.content, reply.finish) == ("R", "AB", "stop") and reply.usage.completion_tokens == 8
    assert served.asked[0]["stream_options"] == {"include_usage": True}
    assert 0.04 < times.first_token < times.last_token < times.seconds
    assert times.last_token - times.first_token > 0.08 and times.first_tokens == round(8 / 3)


@pytest.mark.parametrize(
    "bad",
    [
        streams({"content": "A"}, done=False),
        Answer(pieces=(b"data: {\n\n",)),
        Answer(pieces=(b"data: 3\n\n",)),
        Answer(pieces=(b'data: {"error": {"message": "out of memory"}}\n\n',)),
    ],
)
def test_a_stream_that_breaks_is_asked_again(bad):
    with serving(lambda body, n: streams({"content": "A"}) if n else bad) as served:
        ((reply, times),) = ask(served, "x", stream=True)
    assert reply.content == "A" and times.tries == 2


def test_who_streams_nothing_is_read_all_the_same():
    with serving(lambda body, n: says("A")) as served:
        ((reply, times),) = ask(served, "x", stream=True)
    assert reply.content == "A" and times.first_token is None


def test_an_answer_without_end_is_cut(monkeypatch):
    for module in (client_module, __import__("dokja.judge.endpoint.stream", fromlist=["x"])):
        monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    with serving(lambda body, n: says("A" * 20_000) if n < 1 else streams(*[{"content": "A" * 999}] * 20)) as served:
        whole = ask(served, "x")[0]
        assert isinstance(whole, Failed) and "longer than" in str(whole)
        assert "longer than" in str(ask(served, "x", stream=True)[0])


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


def test_requests_of_a_minute_are_spread_evenly():
    clock, at = Clock(), []
    pace = Pace(requests_per_minute=30, clock=clock, sleep=clock.sleep)

    async def main():
        for _ in range(4):
            await pace.start(1)
            at.append(clock.now)

    asyncio.run(main())
    assert at == pytest.approx([0, 2, 4, 6])


def test_tokens_of_a_minute_are_kept_and_guesses_put_right():
    clock, at = Clock(), []
    pace = Pace(tokens_per_minute=600, clock=clock, sleep=clock.sleep)

    async def main():
        for used in (500, 500, 100, 5_000, 10):
            await pace.start(300)
            at.append(clock.now)
            pace.end(300, used)

    asyncio.run(main())
    # 10 tokens drain a second: 500 leave room for 300 after 20 s; then the level is 800, 600, ... and so on
    assert at == pytest.approx([0, 20, 70, 80, 580])


def test_retry_after_is_a_number_or_a_date():
    assert retry_after("1.5", 0) == 1.5 and retry_after("-3", 0) == 0
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20.0) == 40.0
    assert retry_after(None, 0) is None and retry_after("soon", 0) is None and retry_after("nan", 0) is None


def test_spending_stops_at_what_is_met_first_and_refuses_what_it_cannot_count():
    prices = Endpoint(name="e", base_url="http://h", model="m", prices={"input": 1, "output": 2}).prices
    clock = Clock()
    spending = Spending(Limits(cost=5e-3, tokens=4000, seconds=10), clock)
    spending.priced_in(prices, "e")
    assert spending.over() is None
    spending.add(Usage(1000, 1000), prices)
    assert spending.over() is None
    spending.add(Usage(1000, 1000), prices)
    assert "--max-cost 0.005" in spending.over()
    loose = Spending(Limits(tokens=4000), clock)
    loose.add(Usage(3000, 1000), None)
    assert "--max-total-tokens" in loose.over()
    timed = Spending(Limits(seconds=10), clock)
    clock.now = 11
    assert "--max-seconds" in timed.over()
    with pytest.raises(ConfigError, match="needs the prices of e"):
        Spending(Limits(cost=1)).priced_in(None, "e")
    with pytest.raises(ConfigError, match="cannot add up"):
        spending.priced_in(prices.model_copy(update={"currency": "KRW"}), "j")
