"""`dokja serve` over a small random model: the whole way from the command line to the engine, as a client sees it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from models_small import CLOCK, CORPUS, WEATHER
from test_contract import said, whole

from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.text.tokenizer import Tokenizer, train_tokenizer

ASK = [{"role": "user", "content": "three plus four"}]
SRC = Path(__file__).parents[2] / "src"
DIRECT = {"chat_template_kwargs": {"enable_thinking": False}}


@cache
def small_tokenizer() -> Tokenizer:
    """Of every `checkpoint`."""
    return train_tokenizer([*CORPUS, '{"name": "weather", "arguments": {"city": ""}}'] * 4, 320)


def checkpoint(folder: Path, seed: int = 0, context: int = 2048) -> Path:
    """Random weights, a tokenizer of their own."""
    import torch

    tokenizer = small_tokenizer()
    spec = ModelSpec(tokenizer.vocab_size, 32, 2, 2, 1, 16, 32, context, window=64)
    model = Decoder(spec).init_weights(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(seed))
    export(spec, dict(model.named_parameters()), folder, {"bos": 1, "eos": 2, "pad": 0})
    tokenizer.save(folder)
    return folder


class Process:
    """A running `dokja serve`."""

    def __init__(self, *arguments: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
        argv = [sys.executable, "-m", "dokja", "serve", "--port", "0", "--no-pages", *arguments]
        self.folder = Path(arguments[0].rpartition("=")[2])
        self.popen = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.errors: list[str] = []
        threading.Thread(target=lambda: self.errors.extend(self.popen.stderr), daemon=True).start()
        line = self.popen.stdout.readline()
        assert line.startswith("Serving"), "".join(self.errors)
        self.url = re.search(r"http://\S+", line)[0]

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)

    def engine(self) -> int:
        """The engine's pid."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        (pid,) = (int(c) for c in children if "worker" in Path(f"/proc/{c}/cmdline").read_text())
        return pid

    def end(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(30)
        self.popen.stdout.close()
        return code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(f"tiny={checkpoint(tmp_path_factory.mktemp('tiny'))}", "--slots", "8")
    yield process
    assert process.end() == 0


def chat(server: Process, **body: Any) -> Any:
    extra = {**DIRECT, **body.pop("extra_body", {})}
    body = {"model": "tiny", "messages": ASK, "temperature": 1.0, "seed": 5, **body}
    with server.client() as client:
        got = client.chat.completions.create(**body, extra_body=extra)
        return list(got) if body.get("stream") else got


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_stream_and_whole_are_the_same(server: Process, seed: int, thinking: bool) -> None:
    how = {"extra_body": {"chat_template_kwargs": {"enable_thinking": thinking}}, "max_tokens": 60, "seed": seed}
    how |= {"logprobs": True, "top_logprobs": 3}
    one = said(chat(server, **how))
    two = whole(chat(server, **how, stream=True, stream_options={"include_usage": True}))
    one.usage.prompt_tokens_details.cached_tokens = two.usage.prompt_tokens_details.cached_tokens
    assert one == two
    assert one.usage.completion_tokens <= 60
    if thinking:
        assert one.content.strip(), "an answer follows every thought"
    else:
        assert one.usage.completion_tokens_details.reasoning_tokens == 0
    assert "<think>" not in one.content and "</think>" not in one.content


def test_a_budget_and_an_effort_bound_the_thought(server: Process) -> None:
    thinks = {"chat_template_kwargs": {"enable_thinking": True}}
    for budget in (0, 5, 17):
        got = said(chat(server, max_tokens=80, extra_body={**thinks, "thinking_budget": budget}))
        assert got.usage.completion_tokens_details.reasoning_tokens <= budget
    low = said(chat(server, max_tokens=80, reasoning_effort="low", extra_body={"chat_template_kwargs": {}}))
    assert low.usage.completion_tokens_details.reasoning_tokens <= 10
    assert (
        said(chat(server, max_tokens=80, reasoning_effort="none", extra_body={"chat_template_kwargs": {}})).reasoning
        == ""
    )


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("thinking", [False, True])
def test_json_is_valid_under_its_schema(server: Process, thinking: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    extra = {"chat_template_kwargs": {"enable_thinking": thinking}, "thinking_budget": 10} if thinking else {}
    for seed in range(3):
        got = said(chat(server, response_format=form, seed=seed, max_tokens=400, extra_body=extra))
        assert got.finish == "stop"
        jsonschema.validate(json.loads(got.content), SCHEMA)
    with server.client() as client:
        made = client.responses.create(
            model="tiny", input="x", text={"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
            extra_body={**DIRECT, "seed": 1}, temperature=1.0,
        )  # fmt: skip
    jsonschema.validate(json.loads(made.output_text), SCHEMA)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=["any", "named"]
)
def test_a_call_that_has_to_come_comes(server: Process, choice: Any, thinking: bool) -> None:
    weather = {**WEATHER, "function": {**WEATHER["function"], "parameters": SCHEMA}}
    extra = {"chat_template_kwargs": {"enable_thinking": thinking}}
    extra |= {"thinking_budget": 8} if thinking else {}
    for seed in range(3):
        how = {"tools": [weather, CLOCK], "tool_choice": choice, "seed": seed, "max_tokens": 600, "extra_body": extra}
        one = said(chat(server, **how))
        assert one.finish == "tool_calls", one
        ((name, arguments),) = one.calls
        assert name in ("weather",) if isinstance(choice, dict) else ("weather", "clock")
        if name == "weather":
            jsonschema.validate(json.loads(arguments), SCHEMA)
        assert whole(chat(server, **how, stream=True)).calls == one.calls


def test_penalties_and_bias_are_heard(server: Process) -> None:
    barred = {str(i): -100 for i in range(0, 320) if i != 50}
    got = said(chat(server, logit_bias=barred, max_tokens=10, logprobs=True))
    assert len({t.token for t in got.logprobs}) == 1
    free, held = (said(chat(server, max_tokens=80, temperature=0, presence_penalty=p)) for p in (0.0, 2.0))
    assert free.content != held.content


def test_completions_and_their_logprobs(server: Process) -> None:
    with server.client() as client:
        got = client.completions.create(model="tiny", prompt="three plus", max_tokens=8, logprobs=2, seed=1, n=2)
    assert [len(c.logprobs.tokens) for c in got.choices] == [8, 8] or got.choices[0].finish_reason == "stop"
    assert all(p <= 0 for c in got.choices for p in c.logprobs.token_logprobs)


def test_prompts_are_echoed_and_scored_as_the_model_scores_them(server: Process) -> None:
    import torch

    from dokja.engine.load import load_decoder

    prompt = [1, *range(40, 120), 5, 6]
    body = {"model": "tiny", "prompt": prompt, "logprobs": 3, "echo": True, "seed": 1, "temperature": 0}
    with server.client() as client:
        alone = client.completions.create(max_tokens=0, **body)
        whole_ = client.completions.create(max_tokens=8, **body).choices[0]
        chunks = list(client.completions.create(max_tokens=8, stream=True, **body))
    (choice,), tok = alone.choices, small_tokenizer()
    assert (choice.text, choice.finish_reason) == (tok.decode(prompt), "length")
    assert (alone.usage.prompt_tokens, alone.usage.completion_tokens) == (len(prompt), 0)
    with torch.no_grad():
        logp = load_decoder(server.folder)(torch.tensor([prompt]))[0].log_softmax(-1)
    said = choice.logprobs
    assert said.token_logprobs[0] is None and said.top_logprobs[0] is None
    assert said.token_logprobs[1:] == pytest.approx(
        logp[:-1].gather(1, torch.tensor(prompt[1:])[:, None])[:, 0].tolist(), abs=1e-4
    )
    for row, own, top in zip(logp, said.token_logprobs[1:], said.top_logprobs[1:], strict=False):
        assert max(top.values()) == pytest.approx(float(row.max()), abs=1e-4)
        assert own in top.values() and len(top) in (3, 4)
    for start, token in zip(said.text_offset, said.tokens, strict=True):
        assert choice.text.startswith(token, start) or token.startswith(("bytes:", "<|"))
    assert whole_.text.startswith(choice.text) and len(whole_.logprobs.tokens) == len(prompt) + 8
    parts = [c for chunk in chunks for c in chunk.choices]
    assert "".join(c.text for c in parts) == whole_.text
    told = [p for c in parts if c.logprobs for p in c.logprobs.token_logprobs]
    assert told == whole_.logprobs.token_logprobs


def test_several_prompts_are_echoed_each_as_alone(server: Process) -> None:
    body = {"model": "tiny", "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    prompts = [[1, 70, 80, 90, 71], [1, 70, 80], list(range(40, 120))]
    with server.client() as client:
        together = client.completions.create(prompt=prompts, **body).choices
        for prompt, choice in zip(prompts, together, strict=True):
            alone = client.completions.create(prompt=prompt, **body).choices[0]
            assert (alone.text, alone.logprobs) == (choice.text, choice.logprobs)
            assert len(choice.logprobs.tokens) == len(prompt) + 1, "the token behind the prompt, whatever it is"
        with pytest.raises(openai.BadRequestError, match="without echo nothing is left"):
            client.completions.create(**{**body, "prompt": "x", "max_tokens": 0, "echo": False})


def test_a_shared_prompt_is_read_once(server: Process) -> None:
    long = [{"role": "user", "content": "three plus four is seven. " * 40}]
    chat(server, messages=long, max_tokens=4)
    assert said(chat(server, messages=long, max_tokens=4)).usage.prompt_tokens_details.cached_tokens > 32


def test_figures_and_health_are_told(server: Process) -> None:
    import httpx

    root = server.url.removesuffix("/v1")
    assert httpx.get(f"{root}/health/live").json()["live"]
    assert httpx.get(f"{root}/health/ready").status_code == 200
    text = httpx.get(f"{root}/metrics").text
    assert 'dokja_generation_tokens_total{model="tiny"}' in text
    assert 'dokja_engine_slots{model="tiny"} 8.0' in text


def test_a_page_of_somebody_else_cannot_reach_it(server: Process) -> None:
    import httpx

    root = server.url.removesuffix("/v1")
    assert httpx.get(f"{root}/v1/models", headers={"host": "evil.example"}).status_code == 400


def test_killing_the_engine_is_not_seen_in_an_answer(server: Process) -> None:
    how = {"max_tokens": 1200, "seed": 3, "logit_bias": {"2": -100}}
    calm = whole(chat(server, **how, stream=True))
    killed = False
    content = ""
    with server.client() as client:
        body = {"model": "tiny", "messages": ASK, "temperature": 1.0, **how}
        for chunk in client.chat.completions.create(**body, extra_body=DIRECT, stream=True):
            content += chunk.choices[0].delta.content or ""
            if len(content) > 50 and not killed:
                killed, pid = True, server.engine()
                os.kill(pid, signal.SIGKILL)
    assert killed
    assert content == calm.content
    assert server.engine() != pid


def test_only_the_engine_process_loads_torch(server: Process) -> None:
    assert "libtorch" not in Path(f"/proc/{server.popen.pid}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{server.engine()}/maps").read_text()


def test_models_are_loaded_again_under_running_answers(server: Process) -> None:
    how = {"max_tokens": 1200, "seed": 4, "logit_bias": {"2": -100}}
    calm, before = said(chat(server, **how)), server.engine()
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(said(chat(server, **how))))
    thread.start()
    server.popen.send_signal(signal.SIGHUP)
    thread.join(60)
    assert done[0].content == calm.content
    for _ in range(600):
        if any("loaded again" in line for line in server.errors):
            break
        time.sleep(0.05)
    assert said(chat(server, **how)).content == calm.content
    for _ in range(200):
        if not Path(f"/proc/{before}").exists():
            break
        time.sleep(0.05)
    assert server.engine() != before


def test_sigterm_finishes_what_runs_and_refuses_what_is_new(tmp_path: Path) -> None:
    process = Process(f"tiny={checkpoint(tmp_path)}", "--max-tokens", "1500")
    done: list[Any] = []
    how = {"max_tokens": 1500, "logit_bias": {"2": -100}, "stream": True}
    thread = threading.Thread(target=lambda: done.append(whole(chat(process, **how))))
    thread.start()
    time.sleep(0.5)
    process.popen.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    with pytest.raises((openai.InternalServerError, openai.APIConnectionError)) as refused:
        chat(process, max_tokens=3)
    if isinstance(refused.value, openai.APIStatusError):
        assert refused.value.status_code == 503
    thread.join(60)
    assert process.popen.wait(20) == 0
    assert done[0].finish == "length"
    lines = [json.loads(line) for line in process.errors if line.startswith("{")]
    assert any(line["path"] == "/v1/chat/completions" and line["status"] == 200 for line in lines)
    assert "three plus four" not in "".join(process.errors)


def test_an_address_for_everybody_needs_a_key(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    argv = [sys.executable, "-m", "dokja", "serve", str(folder), "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Give it a key" in done.stderr
