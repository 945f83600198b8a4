"""EXAONE 3.5 and Deep: golden strings, written out by hand."""

import pytest
from official_small import ASK, ASK_AGAIN, CALL, RESULT, SYSTEM, TOLD, TOLD_AGAIN, TOOL_F, learnt, rendered

from dokja.errors import DokjaError
from dokja.text.chat import Message
from dokja.text.styles import STYLES

NO_SYSTEM = "[|system|][|endofturn|]\n"


def test_turns_of_3_5():
    assert rendered("exaone3.5", [SYSTEM, ASK], add_generation_prompt=True) == (
        "[|system|]S[|endofturn|]\n[|user|]U\n[|assistant|]"
    )
    assert rendered("exaone3.5", [ASK], add_generation_prompt=True) == NO_SYSTEM + "[|user|]U\n[|assistant|]"
    assert rendered("exaone3.5", [ASK, TOLD, ASK_AGAIN, TOLD_AGAIN]) == NO_SYSTEM + (
        "[|user|]U\n[|assistant|]A[|endofturn|]\n[|user|]V\n[|assistant|]B[|endofturn|]\n"
    )


def test_turns_of_deep():
    assert rendered("deep", [ASK], add_generation_prompt=True) == NO_SYSTEM + "[|user|]U\n[|assistant|]<thought>\n"
    assert rendered("deep", [SYSTEM, ASK], add_generation_prompt=True) == (
        "[|system|]S[|endofturn|]\n[|user|]U\n[|assistant|]<thought>\n"
    )
    assert rendered("deep", [ASK, TOLD]) == NO_SYSTEM + (
        "[|user|]U\n[|assistant|]<thought>\nR\n</thought>\n\nA[|endofturn|]\n"
    )


def test_the_history_of_deep_keeps_only_what_follows_the_last_thought():
    history = NO_SYSTEM + "[|user|]U\n[|assistant|]A[|endofturn|]\n[|user|]V\n[|assistant|]<thought>\n"
    for said in (TOLD, Message("assistant", "x</thought>y</thought>\n\nA"), Message("assistant", "A")):
        assert rendered("deep", [ASK, said, ASK_AGAIN], add_generation_prompt=True) == history


def test_the_loss_lies_on_the_new_answer_alone():
    style = STYLES["deep"]
    assert learnt(style.render([ASK, TOLD, ASK_AGAIN, TOLD_AGAIN])) == "Q\n</thought>\n\nB[|endofturn|]"
    assert learnt(STYLES["exaone3.5"].render([ASK, TOLD, ASK_AGAIN, TOLD_AGAIN])) == "B[|endofturn|]"
    assert learnt(style.render([ASK, TOLD, ASK_AGAIN], add_generation_prompt=True)) == ""


@pytest.mark.parametrize("name", ["exaone3.5", "deep"])
def test_tools_and_the_other_mode_are_refused_with_a_sentence(name):
    style = STYLES[name]
    for messages, tools in (([ASK], [TOOL_F]), ([ASK, CALL], ()), ([ASK, RESULT], ())):
        with pytest.raises(DokjaError, match="never taught to call tools"):
            style.render(messages, tools=tools)
    with pytest.raises(DokjaError, match="cannot think" if name == "exaone3.5" else "always think"):
        style.render([ASK], thinking=not style.thinking)
    with pytest.raises(DokjaError, match="thinking"):
        style.parser(not style.thinking)
