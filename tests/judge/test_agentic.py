"""Agents judged: records of whole conversations, resumed, graded again; our engine and endpoints as those who speak."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agentic_small import CANCEL, write_pack
from judge_scripted import TOKENIZER, spell

from dokja.engine.api import Completion, Request
from dokja.errors import ConfigError, DataError, DokjaError
from dokja.judge.agentic.endpoint_chat import read_message, wire
from dokja.judge.agentic.engine_chat import EngineChat
from dokja.judge.agentic.run import Plan, regrade, run_agents
from dokja.judge.agentic.table import macro_mean
from dokja.judge.agentic.verb import judge_agents
from dokja.judge.answering import Origin
from dokja.judge.endpoint.description import read_endpoint
from dokja.judge.endpoint.spending import Limits
from dokja.judge.records import Record, Sampling, read_records
from dokja.judge.settings import Wishes
from dokja.judge.table import summarise
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.tasks.agentic.dialogue import Chat, Reply
from dokja.tasks.agentic.domain import Scenario, load_domains
from dokja.tasks.agentic.golden import Golden
from dokja.text.chat import BOS, END, PAD, Message, ToolCall
from dokja.text.styles import DOKJA

GREEDY = Sampling(0.0, 1.0, 64, None)
WHO = Origin("golden", "sha", "", "graders")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "small")


def golden(scenario: Scenario) -> tuple[Chat, Chat]:
    script = Golden(scenario)
    return script.agent, script.user


def run(pack: Path, out: Path, cast: Any = golden, **changes: Any) -> list[Record]:
    how = {"mode": "direct", "sampling": GREEDY, "repeats": 2, "seed": 0, "at_once": 3, "user": "golden"}
    return asyncio.run(run_agents(load_domains(str(pack)), cast, out, Plan(**{**how, **changes}), WHO))


def test_records_hold_the_conversation_the_parts_and_reasons(pack: Path, tmp_path: Path) -> None:
    records = run(pack, tmp_path / "out")
    assert read_records(tmp_path / "out") == records and len(records) == 2 * 5
    first = records[0]
    assert (first.task, first.problem_id) == ("small/airline", "small/airline/0")
    assert (first.score, first.reason, first.finish) == (1.0, "right", "stop")
    cancel = next(r for r in records if r.problem_id == "small/airline/0")
    assert cancel.dialogue is not None and cancel.prompt.startswith("Domain:")
    assert [t.get("call") for t in cancel.dialogue["turns"] if t["who"] == "tool"] == [
        "get_reservation_details",
        "cancel_reservation",
    ]
    assert cancel.dialogue["turns"][4]["calls"] == [CANCEL]
    assert cancel.dialogue["parts"] == {"DB": 1.0, "COMMUNICATE": 1.0, "ACTION": 1.0, "ENV_ASSERTION": 1.0}
    assert cancel.answer == "It is done. 1500" and json.loads(cancel.reference)["criteria"]["actions"]


def test_records_alone_are_graded_again_to_the_same_verdict(pack: Path, tmp_path: Path) -> None:
    records = run(pack, tmp_path / "out")
    domains = {f"small/{d.name}": d for d in load_domains(str(pack))}
    for record in records:
        again = asyncio.run(regrade(domains[record.task], record))
        assert record.dialogue is not None
        assert (again.grade.score, again.parts) == (record.score, record.dialogue["parts"])
    cancel = next(r for r in records if r.problem_id == "small/airline/0")
    assert cancel.dialogue is not None
    turns = [turn for turn in cancel.dialogue["turns"] if turn.get("calls") != [CANCEL]]
    cut = Record(**{**vars(cancel), "dialogue": {**cancel.dialogue, "turns": turns}})
    assert asyncio.run(regrade(domains["small/airline"], cut)).grade.score == 0
    with pytest.raises(DataError, match="There is no scenario"):
        asyncio.run(regrade(domains["small/retail"], cancel))


def test_a_killed_run_holds_no_conversation_twice(pack: Path, tmp_path: Path) -> None:
    held: list[str] = []

    def cast(scenario: Scenario, stop_at: int) -> tuple[Chat, Chat]:
        if len(held) >= stop_at:
            raise KeyboardInterrupt
        held.append(scenario.id)
        return golden(scenario)

    for stop in (3, 7):
        with pytest.raises(KeyboardInterrupt):
            run(pack, tmp_path / "out", lambda s, stop=stop: cast(s, stop), at_once=1)
        assert len(read_records(tmp_path / "out")) == stop
    records = run(pack, tmp_path / "out", lambda s: cast(s, 99), at_once=1)
    assert len(held) == len(records) == 10
    assert [r.key for r in records] == [r.key for r in run(pack, tmp_path / "other")]


def test_one_broken_conversation_does_not_lose_the_others(pack: Path, tmp_path: Path) -> None:
    async def broken(messages: Any, tools: Any, *, key: str, seed: int) -> Reply:
        raise OSError("the line is dead")

    def cast(scenario: Scenario) -> tuple[Chat, Chat]:
        agent, user = golden(scenario)
        return (broken, user) if scenario.id == "small/airline/1" else (agent, user)

    with pytest.raises(DataError, match=r"2 of 10 conversations could not be held .*the line is dead"):
        run(pack, tmp_path / "out", cast)
    assert len(read_records(tmp_path / "out")) == 8
    assert len(run(pack, tmp_path / "out")) == 10


def test_what_meets_every_conversation_ends_the_run(pack: Path, tmp_path: Path) -> None:
    async def refused(messages: Any, tools: Any, *, key: str, seed: int) -> Reply:
        raise DokjaError("The key is not taken.")

    with pytest.raises(DokjaError, match="The key is not taken"):
        run(pack, tmp_path / "out", lambda scenario: (refused, refused))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"user": "http://other/v1#m"}, "another simulated user"),
        ({"seed": 1}, "another seed than 1"),
        ({"sampling": Sampling(0.5, 1.0, 64, None)}, "another sampling"),
    ],
)
def test_conversations_that_were_held_otherwise_are_not_mixed(
    pack: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    run(pack, tmp_path / "out")
    with pytest.raises(DataError, match=says):
        run(pack, tmp_path / "out", **changes)


def test_pass_hat_k_and_both_means(pack: Path, tmp_path: Path) -> None:
    records = run(pack, tmp_path / "out", repeats=4)
    spoilt = [
        Record(**{**vars(r), "score": 0.0, "reason": "wrong"})
        if r.problem_id == "small/airline/0" and r.repeat < 2
        else r
        for r in records
    ]
    summary = summarise(spoilt)
    rows = {row.task: row for row in summary.rows["task"]}
    # two of four right: pass^1 = 1/2, pass^2 = C(2,2)/C(4,2) = 1/6, pass^4 = 0; its neighbour has 1 everywhere
    assert rows["small/airline"].pass_hat == pytest.approx({1: 0.75, 2: (1 + 1 / 6) / 2, 4: 0.5})
    assert summary.rows["overall"][0].score.value == pytest.approx(4.5 / 5)  # each scenario weighs the same
    assert macro_mean(summary) == pytest.approx((1 + 0.75 + 1) / 3)


# --- our engine ---------------------------------------------------------------------------------------------------


class StepEngine:
    """An engine by hand: answers by rule, one request a step."""

    def __init__(self, answers: list[str]) -> None:
        self.answers, self.queue, self.asked = answers, list[Request](), list[Request]()

    def submit(self, request: Request) -> str:
        self.queue.append(request)
        self.asked.append(request)
        return request.id

    def step(self, done: list[Completion]) -> list[Any]:
        request = self.queue.pop(0)
        text = self.answers.pop(0)
        ids = spell(text)
        finish = "stop" if text.endswith("<|end|>") else "length"
        done.append(Completion(request.id, ids, [0.0] * len(ids), finish, False, len(request.prompt)))
        return []

    def abort(self, name: str) -> None:
        self.queue = [request for request in self.queue if request.id != name]


def engine_chat(answers: list[str], mode: Any = "direct", context: int = 9999) -> tuple[EngineChat, StepEngine]:
    engine = StepEngine(answers)
    return EngineChat(engine, TOKENIZER, DOKJA, mode, GREEDY, context), engine  # type: ignore[arg-type]


def ask(chat: Chat, n: int = 1) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        asked = (Message("system", "s"), Message("user", "answer"))
        return list(await asyncio.gather(*(chat(asked, (), key=str(i), seed=i) for i in range(n))))

    return asyncio.run(all_of_them())


def test_the_engine_answers_with_words_or_calls() -> None:
    call = '<tool_call>{"name": "look", "arguments": {"id": "12"}}</tool_call><|end|>'
    chat, engine = engine_chat(["the answer<|end|>", call])
    words, made = ask(chat, 2)
    assert words.message.content == "the answer" and words.finish == "stop"
    assert made.message.tool_calls == (ToolCall("look", {"id": "12"}),) and "tool_call" in made.raw
    assert [request.seed for request in engine.asked] == [0, 1] and made.completion_tokens > 3


def test_the_engine_keeps_thoughts_apart_and_counts_them() -> None:
    (reply,) = ask(engine_chat(["step by step</think>12<|end|>"], "think")[0])
    assert (reply.message.reasoning, reply.message.content) == ("step by step", "12")
    assert 0 < reply.reasoning_tokens < reply.completion_tokens


def test_the_engine_says_where_an_answer_or_a_conversation_is_cut() -> None:
    assert ask(engine_chat(["the answer"])[0])[0].finish == "length"
    chat, engine = engine_chat([], context=4)
    assert ask(chat)[0].finish == "length" and not engine.asked


def test_what_the_engine_raises_reaches_everybody_who_waits() -> None:
    chat, _ = engine_chat([])
    with pytest.raises(IndexError):
        ask(chat, 2)


def test_a_folder_s_model_is_judged_with_the_real_engine(pack: Path, tmp_path: Path, desk: str) -> None:
    pytest.importorskip("aiohttp")
    spec = ModelSpec(
        vocab=TOKENIZER.vocab_size, pattern="LG", layers=2, width=32, heads=2, kv_heads=1, head_dim=16, ffn=64,
        window=32, context=16384,
    )  # fmt: skip
    ids = {name: TOKENIZER.special_id(marker) for name, marker in (("bos", BOS), ("eos", END), ("pad", PAD))}
    model = tmp_path / "model"
    export(spec, dict(Decoder(spec).init_weights(0).named_parameters()), model, ids)
    TOKENIZER.save(model)
    more = {"user": read_endpoint(f"{desk}#customer"), "wishes": Wishes(modes=("direct",), max_tokens=6, repeats=2)}
    judged = judge_agents(model, [f"{pack}/airline"], **more)
    assert judged.folder.parent == model and len(judged.records) == 4
    for record in judged.records:
        assert record.dialogue is not None and record.dialogue["turns"][1]["content"] == "Please cancel AAA111."
        assert record.score == 0 and record.reason in ("truncated", "unparseable", "wrong")
        assert record.usage.prompt_tokens > 1000 and record.usage.completion_tokens <= 6 * 200
    again = judge_agents(model, [f"{pack}/airline"], **more)
    assert again.records == judged.records


# --- endpoints ----------------------------------------------------------------------------------------------------


def test_messages_on_the_wire_name_calls_and_answers_in_order() -> None:
    calls = (ToolCall("a", {"x": 1}), ToolCall("b"))
    sent = wire(
        [
            Message("user", "go"),
            Message("assistant", "", "hm", calls),
            Message("tool", "one"),
            Message("tool", "two"),
            Message("assistant", "done"),
        ]
    )
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_1", "call_2"] and sent[1]["content"] is None
    assert [call["function"]["arguments"] for call in sent[1]["tool_calls"]] == ['{"x": 1}', "{}"]
    assert [message.get("tool_call_id") for message in sent] == [None, None, "call_1", "call_2", None]


@pytest.mark.parametrize("arguments", ['"{broken"', "[1]", "5"])
def test_a_call_that_cannot_be_read_is_no_message(arguments: str) -> None:
    written = f'Sure. <tool_call>{{"name": "a", "arguments": {arguments}}}</tool_call>'
    assert read_message(written, "") == Message("assistant")


def test_a_call_is_read_back_with_the_words_before_it() -> None:
    written = 'Sure.\n<tool_call>{"name": "a", "arguments": null}</tool_call>'
    assert read_message(written, "hm") == Message("assistant", "Sure.", "hm", (ToolCall("a"),))


def _completion(messages: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    """A desk that cancels AAA111, and a customer who wants that."""
    said: dict[str, Any] = {"role": "assistant", "content": None}
    if model == "customer":
        spoken = sum(message["role"] == "assistant" for message in messages)
        said["content"] = "Thanks. ###STOP###" if spoken else "Please cancel AAA111."
    elif messages[-1]["role"] == "user":
        function = {"name": CANCEL["name"], "arguments": json.dumps(CANCEL["arguments"])}
        said["tool_calls"] = [{"id": "1", "type": "function", "function": function}]
    else:
        assert messages[-1]["tool_call_id"] == messages[-2]["tool_calls"][0]["id"]
        said["content"] = "Cancelled; it was 1500."
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    return {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}], "usage": usage}


@pytest.fixture
def desk() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert bool(body.get("tools")) == (body["model"] == "agent")
            data = json.dumps(_completion(body["messages"], body["model"])).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_an_endpoint_is_judged_with_another_as_its_customers(pack: Path, tmp_path: Path, desk: str) -> None:
    pytest.importorskip("aiohttp")
    agent, customer = read_endpoint(f"{desk}#agent"), read_endpoint(f"{desk}#customer")
    out = tmp_path / "out"
    judged = judge_agents(agent, [f"{pack}/airline"], user=customer, wishes=Wishes(max_tokens=50), out=out)
    by_id = {r.problem_id: r for r in judged.records}
    assert by_id["small/airline/0"].score == 1 and by_id["small/airline/1"].score == 0
    first = by_id["small/airline/0"]
    assert first.endpoint == "agent" and first.usage.prompt_tokens == 20 and first.dialogue is not None
    assert first.dialogue["user"] == customer.url and first.dialogue["user_usage"]["completion_tokens"] == 4
    assert len(judged.records) == 2 * 2  # the pack's repeats
    assert (out / "summary.json").is_file()


def test_a_limit_stops_before_the_next_conversation_and_can_be_raised(pack: Path, tmp_path: Path, desk: str) -> None:
    pytest.importorskip("aiohttp")
    agent, customer = read_endpoint(f"{desk}#agent", concurrency=1), read_endpoint(f"{desk}#customer")
    more = {"user": customer, "wishes": Wishes(max_tokens=50), "out": tmp_path / "out"}
    with pytest.raises(DataError, match=r"2 of 4 conversations are left\. Raise the limit"):
        judge_agents(agent, [f"{pack}/airline"], limits=Limits(tokens=60), **more)  # 48 tokens each
    assert len(read_records(tmp_path / "out")) == 2
    assert len(judge_agents(agent, [f"{pack}/airline"], limits=Limits(tokens=999), **more).records) == 4


def test_what_cannot_be_meant_is_said_before_anything_is_asked(pack: Path) -> None:
    with pytest.raises(ConfigError, match="Somebody has to play the customers"):
        judge_agents("some-model", [f"{pack}/airline"])
    with pytest.raises(ConfigError, match="one mode at a time"):
        judge_agents("golden", [f"{pack}/airline"], wishes=Wishes(modes=("think", "direct")))


def test_the_official_actions_can_be_judged_as_a_model(pack: Path, tmp_path: Path) -> None:
    judged = judge_agents("golden", [str(pack)], out=tmp_path / "out")
    assert judged.summary.rows["overall"][0].score.value == 1 and judged.summary.settings["user"] == "golden"
