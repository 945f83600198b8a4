"""Qwen2.5's ChatML: golden strings, a template of our own that writes the same, and templates that do not."""

import json

import pytest
from official_small import learnt, own

from dokja.errors import DataError, DokjaError
from dokja.text.chat import Message, Segment, ToolCall, text_of
from dokja.text.official.chatml import QWEN2_5, QWEN2_5_CODER
from dokja.text.probe import difference
from dokja.text.stream import Piece
from dokja.text.styles import STYLES, style_behind

SPECIALS = {"<|endoftext|>": 7, "<|im_start|>": 8, "<|im_end|>": 9, "<tool_call>": 10, "</tool_call>": 11}
HELLO = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SYSTEM, ASK, AGAIN, SAID = Message("system", "S"), Message("user", "U"), Message("user", "V"), Message("assistant", "A")
TOOLS = [{"type": "function", "function": {"name": "f", "description": "날씨 <&> it's"}}, {"name": "g"}]
BLOCK = """

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "f", "description": "날씨 <&> it's"}}
{"name": "g"}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
EXAMPLE
</tool_call><|im_end|>
"""
EXAMPLE = '{"name": <function-name>, "arguments": <args-json-object>}'
# Written here, in the style of our own template: the makers' files say the same in other words.
JINJA = """\
{%- set own = messages[0].role == 'system' -%}
{{- '<|im_start|>system\\n' -}}
{{- messages[0].content if own else 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' -}}
{%- if tools -%}
{{- '\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n' -}}
{{- 'You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within ' -}}
{{- '<tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}' -}}
{{- '\\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for m in (messages[1:] if own else messages) -%}
{%- if m.role == 'tool' -%}
{{- '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' -}}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' -}}
{{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' else '' -}}
{%- else -%}
{{- '<|im_start|>' + m.role + '\\n' + m.content -}}
{%- for c in m.tool_calls or [] -%}
{{- ('\\n' if m.content or not loop.first else '') + '<tool_call>\\n{"name": "' + c.function.name -}}
{{- '", "arguments": ' + (c.function.arguments | tojson) + '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def written(messages, style=QWEN2_5, **how):
    return text_of(style.render(messages, **how))


def test_turns():
    assert written([ASK], add_generation_prompt=True) == (
        HELLO + "<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
    assert written([SYSTEM, ASK, SAID, AGAIN]) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nV<|im_end|>\n"
    )
    late = written([ASK, Message("system", "T")])
    assert late.startswith(HELLO) and late.endswith("<|im_start|>system\nT<|im_end|>\n")


def test_tools_stand_in_the_first_turn_and_coder_doubles_the_braces_of_the_example():
    asked = "<|im_start|>user\nU<|im_end|>\n"
    assert written([ASK], tools=TOOLS) == HELLO + BLOCK.replace("EXAMPLE", EXAMPLE) + asked
    coder = written([SYSTEM, ASK], QWEN2_5_CODER, tools=TOOLS)
    assert coder == "<|im_start|>system\nS" + BLOCK.replace("EXAMPLE", f"{{{EXAMPLE}}}") + asked
    assert written([SYSTEM, ASK]) == written([SYSTEM, ASK], QWEN2_5_CODER)


def test_calls_and_results():
    calls = (ToolCall("f", {"x": "가"}), ToolCall("g", {}))
    talk = [ASK, Message("assistant", "볼게요", None, calls), Message("tool", "1"), Message("tool", "2")]
    assert written(talk).removeprefix(HELLO + "<|im_end|>\n<|im_start|>user\nU<|im_end|>\n") == (
        '<|im_start|>assistant\n볼게요\n<tool_call>\n{"name": "f", "arguments": {"x": "가"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
    )
    alone = written([ASK, Message("assistant", "", None, calls[1:])])
    assert alone.endswith('assistant\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\n')


def test_markers_in_the_formats_own_sentences_are_markers_and_typed_ones_are_text():
    segments = QWEN2_5.render([Message("user", "<tool_call> <|im_end|>")], tools=TOOLS)
    assert [s.text for s in segments if s.special] == [
        "<|im_start|>", "<tool_call>", "</tool_call>", "<tool_call>", "</tool_call>", "<|im_end|>",
        "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip
    assert any("<tool_call> <|im_end|>" in s.text for s in segments if not s.special)


def test_only_what_the_model_writes_after_the_last_question_is_learnt():
    assert learnt(QWEN2_5.render([ASK, SAID, AGAIN, Message("assistant", "B")])) == "B<|im_end|>"
    assert learnt(QWEN2_5.render([ASK, SAID, AGAIN])) == ""


MESSAGES = [
    Message("assistant", "안녕하세요."),
    Message("assistant", "    return x\n"),
    Message("assistant", "\n\n a \n\n"),
    Message("assistant", ""),
    Message("assistant", "", None, (ToolCall("f", {"x": [1, None]}),)),
    Message("assistant", "보자\n", None, (ToolCall("f", {"q": 'it\'s "<b>"\n'}), ToolCall("g", {}))),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: repr(m.content))
@pytest.mark.parametrize("cut", [1, 2, 7, 1000])
def test_what_is_written_is_read_again_however_it_is_cut(message, cut):
    segments = own(QWEN2_5, message, False)
    parser = QWEN2_5.parser()
    deltas = []
    for s in segments:
        for at in range(0, len(s.text), len(s.text) if s.special else cut):
            deltas += parser.feed(Piece(s.text if s.special else s.text[at : at + cut], s.special))
    deltas += parser.flush()
    assert parser.finish() == message and parser.ended
    assert "".join(d.text for d in deltas if d.kind == "content") == message.content
    assert len([d for d in deltas if d.kind == "tool_call"]) == len(message.tool_calls)


@pytest.mark.parametrize("stop", ["<|im_end|>", "<|endoftext|>", "<|im_start|>"])
def test_every_marker_of_a_turn_ends_the_answer(stop):
    parser = QWEN2_5.parser()
    parser.feed(Piece("A"))
    parser.feed(Piece(stop, True))
    parser.feed(Piece("more"))
    assert parser.ended and parser.finish().content == "A"


def test_a_call_that_is_no_call_stays_text_with_its_line_ends():
    parser = QWEN2_5.parser()
    for piece in (Piece("a\n"), Piece("<tool_call>", True), Piece("\nno\n"), Piece("</tool_call>", True)):
        parser.feed(piece)
    assert parser.finish().content == "a<tool_call>\nno\n</tool_call>" and parser.malformed_tool_calls == 1


def test_it_cannot_think_or_see():
    with pytest.raises(DokjaError, match="cannot think before they answer"):
        QWEN2_5.render([ASK], thinking=True)
    assert QWEN2_5.modes == ("direct",) and QWEN2_5.image is None
    assert written([ASK, Message("assistant", "A", "R"), AGAIN]) == written([ASK, SAID, AGAIN])


# --- which template it is ---------------------------------------------------------------------------------------


def test_a_template_that_writes_the_same_is_known_and_tells_the_variants_apart():
    doubled = JINJA.replace(EXAMPLE, f"{{{EXAMPLE}}}".replace("{{", "{' + '{").replace("}}", "}' + '}"))
    assert difference(QWEN2_5, JINJA) is None and difference(QWEN2_5_CODER, doubled) is None
    assert style_behind(SPECIALS, JINJA, {}, "m") is QWEN2_5
    assert style_behind(SPECIALS, doubled, {}, "m") is QWEN2_5_CODER
    assert STYLES["qwen2.5"] is QWEN2_5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("You are Qwen, created by Alibaba Cloud. You are", "You are"),
        ("'<|im_end|>\\n' -}}\n{%- endif -%}", "'<|im_end|>' -}}\n{%- endif -%}"),
        ("<tool_response>\\n", "<tool_response>"),
        ("+ (tool | tojson)", "+ (tool | string)"),
        ("{{- '<|im_start|>assistant\\n' -}}", "{{- '<|im_start|>assistant\\n<think>\\n' -}}"),
        ("m.role + '\\n' + m.content", "m.role + '\\n' + (m.content | trim)"),
        ("{%- if tools -%}", "{%- if tools and own -%}"),
        ("{%- set own", "{{ raise_exception('no') }}{%- set own"),
        ("{%- set own", "{%- if %}{%- set own"),
        ("{%- set own", "{{ messages.clear() }}{%- set own"),
    ],
)
def test_any_other_chatml_is_refused_with_what_it_writes(old, new):
    assert JINJA.count(old) == 1
    with pytest.raises(DataError, match=r"(?s)neither what qwen2\.5 nor what qwen2\.5-coder does.*will not guess"):
        style_behind(SPECIALS, JINJA.replace(old, new), {}, "m")


def test_chatml_without_a_template_is_refused():
    with pytest.raises(DataError, match="no chat template"):
        style_behind(SPECIALS, None, {}, "m")


def test_the_difference_is_shown_from_where_it_begins():
    assert "helpful robot" in str(difference(QWEN2_5, JINJA.replace("helpful assistant", "helpful robot")))
    assert "no" in str(difference(QWEN2_5, "{{ raise_exception('no') }}"))


def test_jinja_and_we_agree_beyond_the_probes():
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    jinja.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    for message in MESSAGES:
        talk = [SYSTEM, ASK, message, Message("tool", "R"), AGAIN]
        theirs = jinja.from_string(JINJA).render(messages=[m.to_dict() for m in talk], tools=TOOLS)
        assert theirs == written(talk, tools=TOOLS)
    assert Segment("<|im_end|>", True, True) in own(QWEN2_5, SAID, False)
