"""An endpoint's row, and what becomes of anything that it may say."""

import json

import pytest

from dokja.errors import ConfigError
from dokja.judge.endpoint.description import read_endpoint
from dokja.judge.endpoint.reply import Broken, read_json, read_reply
from dokja.judge.records import Usage

TABLE = """
[local]
base_url = "http://127.0.0.1:8000/v1/"
model = "demo"
thinking = "enable_thinking"
[dear]
base_url = "https://api.example.com/v1"
model = "big"
key_env = "DEAR_KEY"
reasoning = "reasoning_content"
residency = "KR"
requests_per_minute = 60
[dear.prices]
input = 1.0
cached_input = 0.1
output = 4.0
currency = "KRW"
"""


def table(tmp_path, text=TABLE):
    path = tmp_path / "endpoints.toml"
    path.write_text(text, encoding="utf-8")
    return path


def completion(message, finish="stop", **more):
    return {"choices": [{"message": message, "finish_reason": finish}], **more}


def test_an_address_names_its_model_behind_a_hash():
    e = read_endpoint("http://127.0.0.1:8000/v1#a/b:c", concurrency=None, thinking="enable_thinking")
    assert (e.name, e.base_url, e.model, e.modes) == ("a/b:c", "http://127.0.0.1:8000/v1", "a/b:c", ("think", "direct"))
    assert e.url == "http://127.0.0.1:8000/v1#a/b:c"


def test_rows_of_a_table_are_read_and_the_command_line_wins(tmp_path):
    path = table(tmp_path)
    local, dear = read_endpoint("local", path), read_endpoint("dear", path, concurrency=3)
    assert local.base_url == "http://127.0.0.1:8000/v1" and local.concurrency == 16
    assert (dear.concurrency, dear.residency, dear.modes) == (3, "KR", ("think",))
    assert dear.prices.of(1_000_000, 500_000, 200_000) == pytest.approx(0.8 + 0.02 + 2.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http://127.0.0.1:8000/v1", "names no model"),
        ("http://127.0.0.1:8000/v1#", "names no model"),
        ("http://me:secret@host/v1#m", "no address"),
        ("http://host/v1?key=1#m", "no address"),
        ("locl", "Did you mean 'local'"),
        ("other", "There are: local, dear"),
    ],
)
def test_what_names_no_endpoint_is_said_in_a_sentence(tmp_path, text, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_endpoint(text, table(tmp_path))
    assert "secret" not in str(caught.value) or "me:secret" in text  # only what was typed


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('keyenv = "X"', "'keyenv' means nothing in an endpoint. Did you mean 'key_env'"),
        ("concurrency = 0", "concurrency"),
        ('thinking = "maybe"', "thinking"),
        ("prices = {input = 1, output = 2, inptu = 3}", "'inptu' means nothing in `prices`. Did you mean 'input'"),
        ("prices = {input = -1, output = 2}", "prices.input"),
        ('key_env = "A"\nkey_file = "b"', "both name a key"),
    ],
)
def test_keys_that_mean_nothing_are_refused(tmp_path, line, sentence):
    path = table(tmp_path, f'[x]\nbase_url = "http://h/v1"\nmodel = "m"\n{line}\n')
    with pytest.raises(ConfigError, match=sentence):
        read_endpoint("x", path)


def test_keys_come_from_where_the_row_says_and_never_show(tmp_path, monkeypatch):
    path = table(tmp_path)
    dear = read_endpoint("dear", path)
    monkeypatch.delenv("DEAR_KEY", raising=False)
    with pytest.raises(ConfigError, match="export DEAR_KEY"):
        dear.key()
    monkeypatch.setenv("DEAR_KEY", "s3cret\n")
    assert dear.key() == "s3cret" and "s3cret" not in f"{dear!r} {dear.model_dump_json()}"
    (tmp_path / "key").write_text(" k \n")
    filed = read_endpoint("http://h/v1#m", key_file=tmp_path / "key")
    assert filed.key() == "k"
    (tmp_path / "key").write_text("")
    with pytest.raises(ConfigError, match="holds no key"):
        filed.key()


@pytest.mark.parametrize(
    ("message", "reasoning", "content"),
    [
        ({"content": "A"}, "", "A"),
        ({"content": "A", "reasoning_content": "R"}, "R", "A"),
        ({"content": "A", "reasoning": "R"}, "R", "A"),
        ({"content": "<think>\nR\n</think>\n\nA"}, "R", "A"),
        ({"content": "R\n</think>\nA"}, "R", "A"),
        ({"content": "<thought>R</thought>A"}, "R", "A"),
        ({"content": "<think></think>A"}, "", "A"),
        ({"content": "A", "reasoning_content": None}, "", "A"),
        ({"content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}, "", "AB"),
        ({"content": [{"type": "thinking", "thinking": [{"text": "R"}]}, {"type": "text", "text": "A"}]}, "R", "A"),
        ({"content": None, "refusal": "No."}, "", "No."),
        ({"content": ""}, "", ""),
        ({"content": "A\ud800"}, "", "A?"),
    ],
)
def test_thoughts_are_taken_out_however_they_come(message, reasoning, content):
    reply = read_reply(completion(message))
    assert (reply.reasoning, reply.content, reply.left_open) == (reasoning, content, False)


def test_a_thought_that_never_ends_is_no_answer():
    reply = read_reply(completion({"content": "<think>so the answer is 12"}, "length"))
    assert (reply.content, reply.left_open, reply.finish) == ("", True, "length")
    assert read_reply(completion({"content": None, "reasoning_content": "R"}, "length")).left_open


def test_only_the_field_that_the_row_names_is_a_thought():
    message = {"content": "<think>T</think>A", "reasoning": "R"}
    assert read_reply(completion(message), "inline").reasoning == "T"
    assert read_reply(completion(message), "reasoning").content == "<think>T</think>A"
    assert read_reply(completion(message), "none").reasoning == ""


def test_calls_stand_behind_the_content_as_a_model_writes_them():
    call = {"function": {"name": "f", "arguments": '{"x": 1}'}}
    reply = read_reply(completion({"content": None, "tool_calls": [call]}, "tool_calls"))
    assert json.loads(reply.content.removeprefix("<tool_call>").removesuffix("</tool_call>")) == {
        "name": "f", "arguments": {"x": 1},
    }  # fmt: skip


def test_tokens_of_a_thought_are_told_or_shared_out_by_letters():
    told = {"prompt_tokens": 9, "completion_tokens": 40, "prompt_tokens_details": {"cached_tokens": 4}}
    message = {"content": "a" * 10, "reasoning_content": "r" * 30}
    assert read_reply(completion(message, usage=told)).usage == Usage(9, 40, 30, 4)
    told["completion_tokens_details"] = {"reasoning_tokens": 35}
    assert read_reply(completion(message, usage=told)).usage == Usage(9, 40, 35, 4)
    assert read_reply(completion(message, usage=None)).usage == Usage()
    odd = {"prompt_tokens": "many", "completion_tokens": -1, "completion_tokens_details": 3}
    assert read_reply(completion(message, usage=odd)).usage == Usage()


@pytest.mark.parametrize(
    "body",
    [
        None, 3, "text", [], {}, {"choices": []}, {"choices": "x"}, {"choices": [3]}, {"choices": [{}]},
        {"choices": [{"message": None}]}, completion({}), completion({"content": None}), completion({"content": 3}),
        completion({"content": {"text": "A"}}), completion({"content": [3]}),
        completion({"content": [{"type": "text"}]}),
        completion({"content": "A"}, "error"), completion({"content": "A"}, 7), completion({"content": "A"}, ["stop"]),
        completion({"content": "A", "tool_calls": [3]}), completion({"content": "A", "tool_calls": [{"function": {}}]}),
        {"error": {"message": "out of memory"}, "choices": []},
    ],
)  # fmt: skip
def test_what_is_no_completion_is_broken_and_never_an_answer(body):
    with pytest.raises(Broken):
        read_reply(body)


@pytest.mark.parametrize("data", [b"", b"<html>", b"{", b"[" * 200_000, b"\xff\xfe"])
def test_what_is_no_json_is_broken(data):
    with pytest.raises(Broken, match="no JSON"):
        read_json(data)
