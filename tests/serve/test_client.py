"""An engine process as its client shows it: tokens, aborts, refusals, swaps."""

import asyncio
import itertools

import pytest
from engine_process import END, LONG, collect, engine, request, run, scripted, until

from dokja.serve.client import EngineClient
from dokja.serve.flight import EngineLost
from dokja.serve.wire import Ending


def test_many_requests_each_get_their_own_tokens_and_one_ending() -> None:
    answers = [[10 + i] * (1 + i % 7) + [END] for i in range(40)]

    async def test() -> None:
        async with engine(scripted(answers)) as client:
            got = await asyncio.gather(*(collect(client, request(i)) for i in range(40)))
        assert [tokens for tokens, _ in got] == answers
        assert all(endings == [Ending("stop")] for _, endings in got)

    run(test)


def test_closing_a_stream_frees_its_slot_within_a_step() -> None:
    async def test() -> None:
        async with engine(scripted(slots=1, step_seconds=0.02)) as client:
            stream = client.stream(request())
            await anext(stream)
            await stream.aclose()
            assert client.in_flight == 0
            steps = client.stats().get("steps", 0)
            tokens, _ = await collect(client, request(max_tokens=3))  # the only slot is free again
            assert tokens == LONG[:3]
            assert client.stats()["steps"] - steps <= 3 + 2
            await until(lambda: client.stats()["running"] == 0)

    run(test)


def test_a_request_that_cannot_be_served_ends_with_a_sentence() -> None:
    async def test() -> None:
        async with engine(scripted(context=4)) as client:
            _, endings = await collect(client, request(prompt=[1, 2, 3, 4]))
            assert [(e.finish, e.trouble) for e in endings] == [("error", "refused")]
            assert "Shorten it" in endings[0].message
            assert (await collect(client, request()))[0] == LONG

    run(test)


def test_weights_are_swapped_without_dropping_a_request() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.02)) as client:
            before = client.pid
            old = [asyncio.create_task(collect(client, request(i))) for i in range(3)]
            await until(lambda: client.stats().get("running", 0) == 3)
            await client.swap(scripted([[7, END]]))
            assert await collect(client, request()) == ([7, END], [Ending("stop")])
            assert client.pid != before
            assert [await task for task in old] == [(LONG, [Ending("stop")])] * 3
            await until(lambda: not client._leaving)

    run(test)


def test_a_swap_that_fails_changes_nothing() -> None:
    async def test() -> None:
        async with engine(scripted()) as client:
            before = client.pid
            with pytest.raises(EngineLost, match="There is no model"):
                await client.swap({"kind": "model", "path": "/nowhere"})
            with pytest.raises(EngineLost, match="another tokenizer"):
                await client.swap(scripted(info={"tokenizer_sha256": "other"}))
            assert (client.pid, client.state) == (before, "ready")
            assert (await collect(client, request()))[0] == LONG

    run(test)


def test_what_cannot_be_loaded_says_why() -> None:
    async def test() -> None:
        client = EngineClient({"kind": "model", "path": "/nowhere"})
        with pytest.raises(EngineLost, match="There is no model"):
            await client.start()
        assert client.state == "dead"
        await client.stop()

    run(test)


def test_stopping_finishes_what_runs_and_takes_nothing_new() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.005)) as client:
            running = asyncio.create_task(collect(client, request()))
            await until(lambda: client.in_flight == 1)
            stopping = asyncio.create_task(client.stop(10))
            await asyncio.sleep(0)
            assert client.state == "draining"
            with pytest.raises(EngineLost, match="stopping"):
                await collect(client, request())
            assert await running == (LONG, [Ending("stop")])
            await stopping

    run(test)


def test_the_deadline_of_a_stop_ends_every_request_with_one_sentence() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.1)) as client:
            running = asyncio.create_task(collect(client, request()))
            await until(lambda: client.in_flight == 1)
            await client.stop(0.3)
            tokens, endings = await running
            assert 0 < len(tokens) < len(LONG)
            assert [e.trouble for e in endings] == ["lost"]

    run(test)


def test_tokens_that_come_fast_are_told_together_and_the_end_at_once() -> None:
    async def told() -> None:
        answer = [*range(100, 300), END]
        async with engine(scripted([answer], step_seconds=0.002)) as client:
            loop, batches = asyncio.get_running_loop(), []
            async for batch in client.batches(request(max_tokens=500)):
                batches.append((loop.time(), batch))
            items = [item for _, batch in batches for item in batch]
            assert [item.token for item in items[:-1]] == answer
            assert len(batches[0][1]) == 1, "the first token waits for nobody"
            times = [at for at, _ in batches]
            assert all(b - a > 0.015 for a, b in itertools.pairwise(times[:-1]))
            assert len(batches) < len(answer) / 2

    run(told)
