from itertools import pairwise

import pytest

from dokja.errors import DokjaError
from dokja.text.chat import SPECIALS, Message, Segment, ToolCall, answer, generation_prompt, render, text_of

ASK = Message("user", "U")
TOLD = Message("assistant", "A", "R")


def learnt(segments: list[Segment]) -> str:
    return "".join(s.text for s in segments if s.loss)


def test_the_layout_is_the_one_of_the_contract():
    talk = [Message("system", "S"), ASK, TOLD]
    head = "<|bos|><|system|>S<|end|><|user|>U<|end|><|assistant|>"
    assert text_of(render(talk)) == head + "<think>R</think>A<|end|>"
    assert text_of(render(talk, thinking=False)) == head + "<think></think>A<|end|>"
    assert text_of(render(talk[:2], add_generation_prompt=True)) == head + "<think>"
    assert text_of(render(talk[:2], thinking=False, add_generation_prompt=True)) == head + "<think></think>"


def test_tools_are_declared_in_the_system_turn_and_called_after_the_content():
    call = Message("assistant", "A", None, (ToolCall("f", {"x": "가"}),))
    text = text_of(render([ASK, call, Message("tool", "1")], tools=[{"name": "f"}, {"name": "g"}]))
    assert text == (
        '<|bos|><|system|># Tools\n{"name": "f"}\n{"name": "g"}<|end|><|user|>U<|end|><|assistant|><think></think>A'
        '<tool_call>{"name": "f", "arguments": {"x": "가"}}</tool_call><|end|><|tool|>1<|end|>'
    )
    with_system = text_of(render([Message("system", "S")], tools=[{"name": "f"}]))
    assert with_system == '<|bos|><|system|>S\n\n# Tools\n{"name": "f"}<|end|>'


def test_the_loss_lies_on_what_the_model_writes_itself():
    assert learnt(render([ASK, TOLD])) == "R</think>A<|end|>"
    assert learnt(render([ASK, TOLD], thinking=False)) == "A<|end|>"
    assert learnt(render([ASK, TOLD, ASK], add_generation_prompt=True)) == ""
    loop = [ASK, Message("assistant", "", "R1", (ToolCall("f"),)), Message("tool", "T"), TOLD]
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call><|end|>'
    assert learnt(render(loop)) == "R1</think>" + call + "R</think>A<|end|>"
    assert learnt(render([ASK, TOLD, *loop])) == learnt(render(loop))


def test_thoughts_before_the_last_question_are_emptied():
    text = text_of(render([ASK, TOLD, ASK, TOLD]))
    assert text.count("<think></think>A") == 1
    assert text.count("<think>R</think>A") == 1


@pytest.mark.parametrize("thinking", [True, False])
def test_a_prompt_is_a_prefix_of_the_conversation_it_prompts(conversation, thinking):
    messages, tools = conversation
    for i, message in enumerate(messages):
        if message.role == "assistant":
            prompt = render(messages[:i], tools=tools, thinking=thinking, add_generation_prompt=True)
            whole = render(messages[: i + 1], tools=tools, thinking=thinking)
            assert whole == prompt + answer(message, thinking)


def test_markers_and_ordinary_text_never_mix(conversation):
    for thinking in (True, False):
        segments = render(conversation[0], tools=conversation[1], thinking=thinking, add_generation_prompt=True)
        assert all(s.text in SPECIALS for s in segments if s.special)
        assert all(s.text for s in segments)
        assert not any(not a.special and not b.special for a, b in pairwise(segments))
        assert not any(s.loss for s in generation_prompt(thinking))


def test_an_empty_thought_is_no_thought():
    assert Message("assistant", "A", "") == Message("assistant", "A", None)


def test_what_cannot_be_shown_is_refused_with_a_sentence():
    with pytest.raises(DokjaError, match="uint8"):
        Message("user", "look", images=("a.png",))
    with pytest.raises(DokjaError, match="Use one of system, user, assistant, tool"):
        Message("bot", "x")
    with pytest.raises(DokjaError, match="Only assistant messages"):
        Message("user", "x", "thought")
    for value in (float("nan"), float("inf"), {1, 2}):
        with pytest.raises(DokjaError, match="not JSON"):
            render([ASK, Message("assistant", "", None, (ToolCall("f", {"x": value}),))])


def test_messages_survive_the_shape_of_the_api(conversation, answers):
    for message in [*conversation[0], *answers]:
        assert Message.from_dict(message.to_dict()) == message


def test_api_messages_are_read_in_their_usual_variants():
    raw = {"role": "assistant", "content": None, "reasoning": "R"}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    assert Message.from_dict(raw | {"tool_calls": [call]}) == Message("assistant", "", "R", (ToolCall("f", {"x": 1}),))
    assert Message.from_dict(raw | {"tool_calls": None}) == Message("assistant", "", "R")
    for bad in ("[1]", "{", 3, None):
        with pytest.raises(DokjaError, match="cannot be read"):
            Message.from_dict(raw | {"tool_calls": [{"name": "f", "arguments": bad}]})
    for content in ([{"type": "audio"}], [1], {"text": "x"}, [{"type": "text"}]):
        with pytest.raises(DokjaError, match="must be text"):
            Message.from_dict({"role": "user", "content": content})
    with pytest.raises(DokjaError, match="role"):
        Message.from_dict({"content": "x"})
