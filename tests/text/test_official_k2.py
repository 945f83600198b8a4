"""K-EXAONE 2.0: what differs from K-EXAONE, as golden strings written out by hand; the XML of its calls."""

import pytest
from official_small import ASK, ASK_AGAIN, CALLS, RESULT, TOLD, TOLD_AGAIN, TOOL_F, learnt, rendered

from dokja.errors import DokjaError
from dokja.text.chat import Message, ToolCall
from dokja.text.official.k2 import read_xml_call, xml_call
from dokja.text.styles import STYLES

TYPED = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"properties": {"s": {"type": "string"}, "n": {"type": "integer"}, "l": {"type": "array"}}},
    },
}


def test_calls_are_xml_and_tools_have_sorted_keys():
    assert rendered("k2", [ASK, CALLS, RESULT], tools=[TOOL_F], add_generation_prompt=True) == (
        "<|tool_declare|>\n# Tools\n"
        '<tool>{"function": {"name": "f", "parameters": {"properties": {}, "type": "object"}}, "type": "function"}'
        "</tool>\n<|endofturn|>\n"
        "<|user|>\nU<|endofturn|>\n"
        "<|assistant|>\n<think>\nR\n</think>\n\n볼게요\n"
        "<tool_call>\n<function=f>\n<parameter=x>\n가\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=g>\n</function>\n</tool_call><|endofturn|>\n"
        "<|tool|>\n<tool_result>21</tool_result><|endofturn|>\n"
        "<|assistant|>\n<think>\n"
    )


def test_past_thoughts_stay_when_they_are_to_be_preserved():
    talk = [ASK, TOLD, ASK_AGAIN, TOLD_AGAIN, ASK]
    kept = (
        "<|user|>\nU<|endofturn|>\n<|assistant|>\n<think>\nR\n</think>\n\nA<|endofturn|>\n"
        "<|user|>\nV<|endofturn|>\n<|assistant|>\n<think>\nQ\n</think>\n\nB<|endofturn|>\n"
        "<|user|>\nU<|endofturn|>\n<|assistant|>\n<think>\n"
    )
    assert rendered("k2", talk, add_generation_prompt=True, preserve_thinking=True) == kept
    assert rendered("k2", talk, add_generation_prompt=True).count("<think>\n\n</think>") == 2
    assert rendered("k", talk, add_generation_prompt=True, preserve_thinking=True).count("<think>\n\n</think>") == 2
    assert learnt(STYLES["k2"].render(talk, preserve_thinking=True)) == ""
    # A thought that is kept in an answer at once is not what the model writes in that mode.
    assert learnt(STYLES["k2"].render(talk[:2], thinking=False, preserve_thinking=True)) == ""


def test_values_that_are_no_text_are_json():
    call = ToolCall("f", {"s": "a\nb", "n": 3, "l": [1, None, {"k": True}]})
    assert xml_call(call) == (
        "\n<function=f>\n<parameter=s>\na\nb\n</parameter>\n<parameter=n>\n3\n</parameter>\n"
        '<parameter=l>\n[1, null, {"k": true}]\n</parameter>\n</function>\n'
    )
    assert read_xml_call(xml_call(call)) == call


def test_types_are_read_from_the_declaration():
    text = xml_call(ToolCall("f", {"s": "5", "n": 5}))
    assert read_xml_call(text, [TYPED]) == ToolCall("f", {"s": "5", "n": 5})
    assert read_xml_call(text) == ToolCall("f", {"s": 5, "n": 5})  # without one, JSON is taken for JSON
    assert read_xml_call(text.replace("<parameter=n>\n5", "<parameter=n>\nfive"), [TYPED]).arguments["n"] == "five"


@pytest.mark.parametrize("value", ["", "\n", "\nx\n", " x ", "</parameter>", "a\n</parameter>\nb", "</function>", "<"])
def test_any_text_comes_back(value):
    for arguments in ({"s": value}, {"s": value, "t": value}):
        assert read_xml_call(xml_call(ToolCall("f", arguments))) == ToolCall("f", arguments)


def test_calls_without_line_ends_are_read():
    text = "<function=f><parameter=s>Tokyo</parameter><parameter=n>2</parameter></function>"
    assert read_xml_call(text) == ToolCall("f", {"s": "Tokyo", "n": 2})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"name": "f", "arguments": {}}',
        "<function=>\n</function>",
        "<function=f>\n",
        "<function=f>\nwords\n</function>",
        "<function=f>\n<parameter=s>\nx\n</function>",
        "<function=f>\n<parameter=s>\n1\n</parameter>\n<parameter=s>\n2\n</parameter>\n</function>",
    ],
)
def test_what_is_no_call_is_none(text):
    assert read_xml_call(text) is None


def test_names_that_no_tag_can_hold_are_refused():
    for call in (ToolCall("a b", {}), ToolCall("f", {"x>": 1}), ToolCall("", {})):
        with pytest.raises(DokjaError, match="one plain word"):
            rendered("k2", [ASK, Message("assistant", "", None, (call,))])
