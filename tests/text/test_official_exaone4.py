"""EXAONE 4.0: golden strings, written out by hand."""

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

from dokja.text.chat import Message
from dokja.text.styles import STYLES

OFF, ON = "<think>\n\n</think>\n\n", "<think>\n"
TOOLS = """\
# Available Tools
You can use none, one, or multiple of the following tools by calling them as functions to help with the user’s query.
Here are the tools available to you in JSON format within <tool> and </tool> tags:
<tool>{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}</tool>
<tool>{"name": "g"}</tool>

For each function call you want to make, return a JSON object with function name and arguments within <tool_call> and \
</tool_call> tags, like:
<tool_call>{"name": function_1_name, "arguments": {argument_1_name: argument_1_value, argument_2_name: \
argument_2_value}}</tool_call>
<tool_call>{"name": function_2_name, "arguments": {...}}</tool_call>
...
Note that if no argument name is specified for a tool, you can just print the argument value directly, without the \
argument name or JSON formatting."""


def test_prompts_think_only_when_asked():
    head = "[|user|]\nU[|endofturn|]\n[|assistant|]\n"
    assert rendered("exaone4", [ASK], add_generation_prompt=True) == head + OFF
    assert rendered("exaone4", [ASK], thinking=False, add_generation_prompt=True) == head + OFF
    assert rendered("exaone4", [ASK], thinking=True, add_generation_prompt=True) == head + ON
    assert rendered("exaone4", [SYSTEM, ASK], add_generation_prompt=True) == "[|system|]\nS[|endofturn|]\n" + head + OFF


def test_thoughts_of_the_history_are_emptied():
    turns = f"[|user|]\nU[|endofturn|]\n[|assistant|]\n{OFF}A[|endofturn|]\n[|user|]\nV[|endofturn|]\n[|assistant|]\n"
    for thinking, prompt in ((False, OFF), (True, ON)):
        said = rendered("exaone4", [ASK, TOLD, ASK_AGAIN], thinking=thinking, add_generation_prompt=True)
        assert said == turns + prompt
    assert rendered("exaone4", [ASK, TOLD, ASK_AGAIN, TOLD_AGAIN]) == turns + OFF + "B[|endofturn|]\n"
    last = rendered("exaone4", [ASK, TOLD, ASK_AGAIN, TOLD_AGAIN], thinking=True)
    assert last == turns + "<think>\nQ\n</think>\n\nB[|endofturn|]\n"


def test_tools_stand_in_the_system_turn():
    tools = [TOOL_F, TOOL_G]
    asked = f"[|user|]\nU[|endofturn|]\n[|assistant|]\n{OFF}"
    with_system = rendered("exaone4", [SYSTEM, ASK], tools=tools, add_generation_prompt=True)
    assert with_system == f"[|system|]\nS\n\n{TOOLS}[|endofturn|]\n{asked}"
    assert rendered("exaone4", [ASK], tools=tools, add_generation_prompt=True) == (
        f"[|system|]\n{TOOLS}[|endofturn|]\n{asked}"
    )


def test_calls_and_results():
    talk = [ASK, CALLS, RESULT, RESULT_2]
    assert rendered("exaone4", talk, thinking=True, add_generation_prompt=True) == (
        "[|user|]\nU[|endofturn|]\n"
        "[|assistant|]\n<think>\n\n</think>\n\n볼게요\n"
        '<tool_call>{"name": "f", "arguments": {"x": "가"}}</tool_call>\n'
        '<tool_call>{"name": "g", "arguments": {}}</tool_call>[|endofturn|]\n'
        '[|tool|]\n<tool_result>{"result": "21"}</tool_result>\n'
        '<tool_result>{"result": "{\\"a\\": \\"b\\"}"}</tool_result>[|endofturn|]\n'
        "[|assistant|]\n<think>\n"
    )
    assert rendered("exaone4", [ASK, CALL], thinking=True) == (
        "[|user|]\nU[|endofturn|]\n[|assistant|]\n<think>\nR\n</think>\n\n"
        '<tool_call>{"name": "f", "arguments": {"x": "가", "n": 1}}</tool_call>[|endofturn|]\n'
    )


def test_the_loss_lies_on_what_the_model_writes_in_that_mode():
    style, loop = STYLES["exaone4"], [ASK, CALL, RESULT, TOLD]
    call = '<tool_call>{"name": "f", "arguments": {"x": "가", "n": 1}}</tool_call>[|endofturn|]'
    assert learnt(style.render(loop, thinking=False)) == call + "A[|endofturn|]"
    # An earlier call of the loop has lost its thought, so nothing is learnt from it.
    assert learnt(style.render(loop, thinking=True)) == "R\n</think>\n\nA[|endofturn|]"
    assert learnt(style.render([ASK, TOLD, ASK_AGAIN], add_generation_prompt=True)) == ""


def test_the_markers_in_the_sentences_about_tools_are_markers_and_those_in_schemas_are_text():
    tool = {"name": "f", "description": "not a <tool_call> marker"}
    segments = STYLES["exaone4"].render([Message("user", "<tool>")], tools=[tool])
    spelled = [s.text for s in segments if not s.special and ("<tool_call>" in s.text or "<tool>" in s.text)]
    assert spelled == ['{"name": "f", "description": "not a <tool_call> marker"}', "\n<tool>"]
    assert sum(s.special and s.text == "<tool_call>" for s in segments) == 3
