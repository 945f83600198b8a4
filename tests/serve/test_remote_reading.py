"""Streams of other engines: however they spell thoughts, calls, scores and usage, the parts are those of our own."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.serve.remote_reading import MARKS, RemoteReader, Words


def read(deltas: list[dict[str, Any]], finish: str = "stop", usage: Any = None) -> tuple[RemoteReader, dict[str, str]]:
    """(reader, what it read: reasoning, content, and calls as name:arguments)."""
    reader, texts, calls = RemoteReader(Words()), {"reasoning": "", "content": ""}, {}
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage})
    parts = [p for event in events for p in reader.feed(event)] + reader.end()
    for part in parts:
        if part.kind == "call":
            assert part.index == len(calls)
            calls[part.index] = f"{part.name}:"
        elif part.kind == "arguments":
            calls[part.index] += part.text
        else:
            texts[part.kind] += part.text
    return reader, {**texts, "calls": " ".join(calls.values())}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MARKS),
    st.lists(st.integers(0, 60), max_size=8),
    st.sampled_from(["", "\n", "  \n"]),
    st.sampled_from(["", "음 <b> </thin 3 + 4"]),
    st.sampled_from(["", "7 입니다.\n</think> <think>"]),
)
def test_a_thought_in_the_content_is_found_however_it_is_cut(marks, cuts, before, thought, content) -> None:
    opening, closing = marks
    if closing in thought:
        return
    text = f"{before}{opening}\n{thought}\n{closing}\n\n{content}"
    edges = [0, *sorted({c % (len(text) + 1) for c in cuts}), len(text)]
    deltas = [{"content": text[a:b]} for a, b in itertools.pairwise(edges)]
    assert read(deltas)[1] == {"reasoning": thought, "content": content, "calls": ""}


@pytest.mark.parametrize("text", ["", " <thi", "x <think>y</think>", "<div>", "\n\n7"])
def test_content_without_a_thought_stays_as_it_is(text: str) -> None:
    assert read([{"content": c} for c in text])[1]["content"] == text


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_an_engine_that_parses_thoughts_is_believed(name: str) -> None:
    reader, said = read([{name: "a"}, {name: "b", "content": ""}, {"content": "<think>"}, {"content": "c"}])
    assert said == {"reasoning": "ab", "content": "<think>c", "calls": ""}
    assert (reader.usage.completion, reader.usage.reasoning) == (4, 2)


F, G = {"name": "f", "arguments": '{"x": 1}'}, {"name": "g", "arguments": "{}"}
CALLS = [
    [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
     {"index": 0, "function": {"arguments": " 1}"}}, {"index": 1, "id": "b", "function": G}],
    [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}, {"id": "b", "function": G}],
    [{"function": F}, {"function": G}],
    [{"index": 3, "function": {"name": "f", "arguments": ""}}, {"index": 3, "function": F},
     {"index": 7, "function": G}],
]  # fmt: skip


@pytest.mark.parametrize("calls", CALLS, ids=["in pieces", "no index", "neither", "odd indices"])
@pytest.mark.parametrize("together", [False, True])
def test_calls_are_numbered_from_0(calls: list[dict[str, Any]], together: bool) -> None:
    deltas = [{"tool_calls": calls}] if together else [{"tool_calls": [c]} for c in calls]
    reader, said = read(deltas)
    assert said["calls"] == 'f:{"x": 1} g:{}'
    assert reader.finish == "tool_calls"


def test_usage_is_the_engines_where_it_tells_it() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    usage = read([{"reasoning": "a"}, {"content": "b"}], usage=told)[0].usage
    assert (usage.prompt, usage.completion, usage.reasoning, usage.cached) == (9, 5, 1, 4)
    told["completion_tokens_details"] = {"reasoning_tokens": 3}
    assert read([{"reasoning": "a"}], usage=told)[0].usage.reasoning == 3
    usage = read([{"content": "b"}, {"content": "c"}])[0].usage
    assert (usage.prompt, usage.completion) == (0, 2)


def test_scores_come_with_the_content_alone() -> None:
    words = Words()
    reader = RemoteReader(words, scores=True)
    token = {"token": "�", "bytes": [236, 149], "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -0.5}]}
    for delta in ({"content": "<think>"}, {"content": "a"}, {"content": "</think>"}):
        parts = reader.feed({"choices": [{"delta": delta, "logprobs": {"content": [token]}}]})
    assert not any(p.scores for p in parts if p.kind != "content")
    (part,) = reader.feed({"choices": [{"delta": {"content": ""}, "logprobs": {"content": [token]}}]})
    assert words.decode_bytes([part.scores[0].token]) == bytes([236, 149])
    assert words.decode([part.scores[0].top[0][0]]) == "x"
