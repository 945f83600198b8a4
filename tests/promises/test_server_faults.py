"""Whatever happens to the engine process: no request hangs, each ends once, and no token is lost, doubled or mixed."""

import asyncio
import itertools
import os
import signal
import time
from pathlib import Path

import pytest
from engine_process import END, LONG, collect, engine, request, run, scripted, until

from dokja.engine.rules import Grammar
from dokja.serve.wire import Ending

WHOLE = (LONG, [Ending("stop")])


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
def test_a_killed_engine_is_replaced_and_nobody_sees_it(after: float) -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.01)) as client:
            asked = [asyncio.create_task(collect(client, request(i))) for i in range(20)]
            await asyncio.sleep(after)
            before, began = client.pid, time.monotonic()
            os.kill(before, signal.SIGKILL)
            await until(lambda: client.pid != before and client.state == "ready")
            assert time.monotonic() - began < 5
            assert [await task for task in asked] == [WHOLE] * 20
            assert client.restarts == 1

    run(test)


def test_an_engine_killed_again_and_again_still_answers() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.01)) as client:
            asked = asyncio.create_task(collect(client, request()))
            for _ in range(2):
                before = client.pid
                await until(lambda: client.stats().get("running") == 1)
                os.kill(before, signal.SIGKILL)
                await until(lambda before=before: client.pid != before and client.state == "ready")
            assert await asked == WHOLE

    run(test)


def test_a_paused_engine_is_killed_and_replaced() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.01), stuck_seconds=0.6) as client:
            asked = [asyncio.create_task(collect(client, request(i))) for i in range(5)]
            await until(lambda: client.stats().get("running", 0) > 0)
            before = client.pid
            os.kill(before, signal.SIGSTOP)
            assert [await task for task in asked] == [WHOLE] * 5
            assert client.pid != before

    run(test)


def test_a_short_pause_costs_nothing() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.005), stuck_seconds=5.0) as client:
            asked = asyncio.create_task(collect(client, request()))
            await until(lambda: client.in_flight == 1)
            os.kill(client.pid, signal.SIGSTOP)
            await asyncio.sleep(0.3)
            assert client.heartbeat_age >= 0.25
            os.kill(client.pid, signal.SIGCONT)
            assert await asked == WHOLE
            assert client.restarts == 0

    run(test)


def test_a_grammar_that_takes_long_to_compile_holds_nobody_else() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.005, compile_seconds=2.0), stuck_seconds=0.5) as client:
            waiting = [asyncio.create_task(collect(client, request(i, grammar=Grammar.json_object()))) for i in (1, 2)]
            left = asyncio.create_task(collect(client, request(3, grammar=Grammar.json_object())))
            await asyncio.sleep(0.05)
            left.cancel()  # before its turn to be compiled
            times = []
            async for _ in client.stream(request(4)):
                times.append(time.monotonic())
            assert len(times) == len(LONG) + 1
            assert max(b - a for a, b in itertools.pairwise(times)) < 0.5
            assert not any(task.done() for task in waiting), "they are still being compiled"
            assert [await task for task in waiting] == [WHOLE] * 2
            assert client.restarts == 0
            await until(lambda: client.stats().get("running") == 0)

    run(test)


@pytest.mark.parametrize("kind", ["exit", "hang", "raise"])
def test_a_fault_in_a_step_is_survived(kind: str) -> None:
    load = scripted(step_seconds=0.005, faults=[{"kind": kind, "step": 10, "life": 0}])

    async def test() -> None:
        async with engine(load, stuck_seconds=0.6) as client:
            assert await asyncio.gather(*(collect(client, request(i)) for i in range(4))) == [WHOLE] * 4
            assert client.restarts == 1

    run(test)


def test_a_request_that_always_kills_the_engine_is_given_up() -> None:
    faults = [{"kind": "exit", "step": 2, "life": life} for life in range(3)]

    async def test() -> None:
        async with engine(scripted(faults=faults, step_seconds=0.02)) as client:
            tokens, endings = await collect(client, request())
            assert tokens == LONG[:2]
            assert [e.trouble for e in endings] == ["lost"]
            await until(lambda: client.state == "ready")
            assert await collect(client, request(1)) == WHOLE

    run(test)


def test_what_cannot_be_written_again_ends_with_one_sentence() -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.02)) as client:
            asked = asyncio.create_task(collect(client, request(), replay=False))
            await until(lambda: client.stats().get("running") == 1)
            await asyncio.sleep(0.1)
            os.kill(client.pid, signal.SIGKILL)
            tokens, endings = await asked
            assert 0 < len(tokens) < len(LONG)
            assert [e.trouble for e in endings] == ["lost"]

    run(test)


def test_another_answer_after_a_restart_is_not_glued_to_the_first(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(scripted(step_seconds=0.02)) as client:
            asked = asyncio.create_task(collect(client, request()))
            await until(lambda: client.stats().get("running") == 1)
            await asyncio.sleep(0.1)
            client._load = scripted([[*LONG[:2], 7, 7, 7, 7, END]])  # the weights on disk have changed meanwhile
            os.kill(client.pid, signal.SIGKILL)
            tokens, endings = await asked
            assert tokens == LONG[: len(tokens)]
            assert [e.trouble for e in endings] == ["lost"]

    run(test)


def test_readers_that_leave_in_the_middle_disturb_nobody() -> None:
    answers = [[10 + i] * 30 + [END] for i in range(40)]

    async def leaves(client, i: int) -> None:
        stream = client.stream(request(i))
        for _ in range(i % 5 + 1):
            await anext(stream)
        await stream.aclose()

    async def test() -> None:
        async with engine(scripted(answers, step_seconds=0.002)) as client:
            leaving = [asyncio.create_task(leaves(client, i)) for i in range(20, 40)]
            staying = [asyncio.create_task(collect(client, request(i))) for i in range(20)]
            assert [(await task)[0] for task in staying] == answers[:20]
            await asyncio.gather(*leaving)
            await until(lambda: client.stats()["running"] + client.stats()["waiting"] + client.in_flight == 0)

    run(test)


def test_the_engine_process_ends_with_the_server(tmp_path: Path) -> None:
    """kill -9 of the server closes the connection, and that ends the engine."""
    import subprocess
    import sys

    code = (
        "import asyncio, sys\n"
        "from engine_process import scripted\n"
        "from dokja.serve.client import EngineClient\n"
        "async def main():\n"
        "    client = EngineClient(scripted()); await client.start(); print(client.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    here = Path(__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": f"{here.parent / 'src'}:{here / 'serve'}"}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as server:
        pid = int(server.stdout.readline())
        server.kill()
    until_then = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1]:
        assert time.monotonic() < until_then, "the engine outlived its server"
        time.sleep(0.02)
