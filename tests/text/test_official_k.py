"""EXAONE 4.5 and K-EXAONE: golden strings, written out by hand."""

import numpy as np
import pytest
from official_small import (
    ASK,
    ASK_AGAIN,
    CALL,
    CALLS,
    RESULT,
    RESULT_2,
    SYSTEM,
    TOLD,
    TOLD_AGAIN,
    TOOL_F,
    TOOL_G,
    learnt,
    rendered,
)

from dokja.errors import DokjaError
from dokja.text.chat import Message
from dokja.text.styles import STYLES

OFF, ON = "<think>\n\n</think>\n\n", "<think>\n"
IMAGE = np.zeros((28, 28, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["k", "k2"])
def test_prompts_think_unless_asked_not_to(name):
    head = "<|user|>\nU<|endofturn|>\n<|assistant|>\n"
    assert rendered(name, [ASK], add_generation_prompt=True) == head + ON
    assert rendered(name, [ASK], thinking=True, add_generation_prompt=True) == head + ON
    assert rendered(name, [ASK], thinking=False, add_generation_prompt=True) == head + OFF
    system = rendered(name, [SYSTEM, ASK], add_generation_prompt=True)
    assert system == "<|system|>\nS<|endofturn|>\n" + head + ON


@pytest.mark.parametrize("name", ["k", "k2"])
def test_thoughts_survive_only_after_the_last_user_message(name):
    turns = f"<|user|>\nU<|endofturn|>\n<|assistant|>\n{OFF}A<|endofturn|>\n<|user|>\nV<|endofturn|>\n<|assistant|>\n"
    assert rendered(name, [ASK, TOLD, ASK_AGAIN], add_generation_prompt=True) == turns + ON
    assert rendered(name, [ASK, TOLD, ASK_AGAIN, TOLD_AGAIN]) == turns + "<think>\nQ\n</think>\n\nB<|endofturn|>\n"
    at_once = rendered(name, [ASK, TOLD, ASK_AGAIN, TOLD_AGAIN], thinking=False)
    assert at_once == turns + OFF + "B<|endofturn|>\n"


def test_a_tool_loop_keeps_its_thoughts():
    talk = [SYSTEM, ASK, CALLS, RESULT, RESULT_2]
    assert rendered("k", talk, tools=[TOOL_F, TOOL_G], add_generation_prompt=True) == (
        "<|tool_declare|>\n# Tools\n"
        '<tool>{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}'
        '</tool>\n<tool>{"name": "g"}</tool>\n<|endofturn|>\n'
        "<|system|>\nS<|endofturn|>\n"
        "<|user|>\nU<|endofturn|>\n"
        "<|assistant|>\n<think>\nR\n</think>\n\n볼게요\n"
        '<tool_call>{"name": "f", "arguments": {"x": "가"}}</tool_call>\n'
        '<tool_call>{"name": "g", "arguments": {}}</tool_call><|endofturn|>\n'
        '<|tool|>\n<tool_result>21</tool_result>\n<tool_result>{"a": "b"}</tool_result><|endofturn|>\n'
        "<|assistant|>\n<think>\n"
    )
    after = rendered("k", [ASK, CALL, RESULT, TOLD, ASK_AGAIN], add_generation_prompt=True)
    assert after == (
        "<|user|>\nU<|endofturn|>\n"
        f'<|assistant|>\n{OFF}<tool_call>{{"name": "f", "arguments": {{"x": "가", "n": 1}}}}</tool_call><|endofturn|>\n'
        "<|tool|>\n<tool_result>21</tool_result><|endofturn|>\n"
        f"<|assistant|>\n{OFF}A<|endofturn|>\n"
        "<|user|>\nV<|endofturn|>\n<|assistant|>\n<think>\n"
    )


def test_space_around_thoughts_and_answers_is_the_formats():
    said = Message("assistant", " A\n\n", "\n R ")
    assert rendered("k", [ASK, said]).endswith("<think>\nR\n</think>\n\nA<|endofturn|>\n")


def test_images_stand_before_the_text_of_their_turn():
    shown = Message("user", "무엇?", images=(IMAGE, IMAGE))
    segments = STYLES["k"].render([shown], add_generation_prompt=True)
    pad = "<vision><|image_pad|></vision>\n"
    assert rendered("k", [shown], add_generation_prompt=True) == (
        f"<|user|>\n{pad}{pad}무엇?<|endofturn|>\n<|assistant|>\n<think>\n"
    )
    assert sum(s.special and s.text == STYLES["k"].image for s in segments) == 2
    with pytest.raises(DokjaError, match="user messages only"):
        STYLES["k"].render([Message("tool", "", images=(IMAGE,))])
    for name in ("exaone3.5", "deep", "exaone4", "k2"):
        with pytest.raises(DokjaError, match="text alone"):
            STYLES[name].render([shown])


def test_the_loss_lies_on_the_whole_loop_after_the_last_question():
    style, loop = STYLES["k"], [ASK, TOLD, ASK_AGAIN, CALL, RESULT, TOLD_AGAIN]
    call = '<tool_call>{"name": "f", "arguments": {"x": "가", "n": 1}}</tool_call><|endofturn|>'
    assert learnt(style.render(loop)) == f"R\n</think>\n\n{call}Q\n</think>\n\nB<|endofturn|>"
    assert learnt(style.render(loop, thinking=False)) == f"{call}B<|endofturn|>"
