"""Conversations as clients send them: roles, parts, and images within limits."""

from dataclasses import replace

import numpy as np
import pytest
from models_small import facts

from dokja.serve.api.messages import read_messages
from dokja.serve.api.responses_input import conversation
from dokja.serve.asking import Ask, Refusal, plan
from dokja.serve.limits import Limits
from dokja.text.chat import Message, ToolCall
from dokja.text.images import ImageConfig, data_url

PIXELS = np.arange(56 * 56 * 3, dtype=np.uint8).reshape(56, 56, 3)


def shown(url: str = "") -> dict:
    return {"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": url or data_url(PIXELS), "detail": "auto"}},
        {"type": "text", "text": "무엇?"},
    ]}  # fmt: skip


def test_images_reach_the_request_in_their_places() -> None:
    sees = replace(facts("k"), images=ImageConfig())
    messages = read_messages([shown(), shown()], Limits())
    assert [m.images[0].shape for m in messages] == [(56, 56, 3)] * 2
    request = plan(Ask(messages, {}), sees, "r").request
    assert len(request.images) == 2
    assert request.prompt.count(sees.tokenizer.special_id("<|image_pad|>")) == 2 * 4
    with pytest.raises(Exception, match="reads text alone"):
        plan(Ask(messages, {}), facts("k"), "r")


@pytest.mark.parametrize(
    ("raw", "limits", "match"),
    [
        ([shown()] * 3, Limits(images=2), "may hold 2 images"),
        ([shown()], Limits(image_bytes=100), "more than 100 bytes"),
        ([shown()], Limits(image_pixels=100), "at most 100 are read"),
        ([shown("http://example.org/a.png")], Limits(), "data URL"),
        ([shown("/etc/passwd")], Limits(), "data URL"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], Limits(), "text and image_url parts"),
        ([{"role": "user", "content": 7}], Limits(), "messages\\[0\\]"),
        ([{"content": "x"}], Limits(), "role"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1"}}]}],
            Limits(),
            "tool call",
        ),
    ],
)
def test_what_is_no_message_names_its_place(raw: list, limits: Limits, match: str) -> None:
    with pytest.raises(Refusal, match=match) as refused:
        read_messages(raw, limits)
    assert refused.value.param.startswith("messages[")


def test_items_of_one_turn_become_one_message() -> None:
    items = [
        {"role": "developer", "content": "짧게"},
        {"role": "user", "content": [{"type": "input_text", "text": "서울?"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "R"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "봅시다"}]},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "d", "name": "clock", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "맑음"},
        {"type": "function_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "9시"}]},
    ]
    assert conversation(items, "친절하게", Limits()) == [
        Message("system", "친절하게"),
        Message("system", "짧게"),
        Message("user", "서울?"),
        Message("assistant", "봅시다", "R", (ToolCall("weather"), ToolCall("clock"))),
        Message("tool", "맑음"),
        Message("tool", "9시"),
    ]
    with pytest.raises(Refusal, match="'computer_call' are not known"):
        conversation([{"type": "computer_call"}], None, Limits())
