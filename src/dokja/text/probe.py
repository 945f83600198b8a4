"""Whether a Jinja chat template writes what a style writes: both lay out a few conversations, which must be equal.

A template is a program, and markers alone do not tell what it does: families that share ChatML differ in the system
sentence, in tools and in spaces. It runs in Jinja's sandbox with what transformers gives templates: `tojson` that
leaves letters as they are, `raise_exception`, blocks that take their line ends.
"""

from __future__ import annotations

from typing import Any, NoReturn

from dokja.errors import ConfigError
from dokja.text.chat import Message, ToolCall, text_of, to_json
from dokja.text.style import Style, Tools

_TOOLS: Tools = (
    {"type": "function", "function": {"name": "f", "description": "날씨 <&> it's", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "g", "parameters": {"b": 1, "a": [None, True]}}},
)
_SYSTEM, _ASK, _AGAIN = Message("system", "S 하나"), Message("user", " U\n둘 "), Message("user", "V")
_SAID, _RESULT, _OTHER = Message("assistant", " A\n셋"), Message("tool", '{"x": 1}'), Message("tool", "R")
_CALL = Message("assistant", "", None, (ToolCall("f", {"city": "서울", "n": 1}),))
_CALLS = Message("assistant", "보자", None, (ToolCall("f", {"q": 'it\'s "<b>"'}), ToolCall("g", {})))
_TALKS: tuple[tuple[Message, ...], ...] = (
    (_ASK,),
    (_SYSTEM, _ASK),
    (_SYSTEM, _ASK, _SAID, _AGAIN),
    (_ASK, _SAID, Message("system", "T"), _AGAIN, _SAID),
)
_TOOL_TALKS: tuple[tuple[Message, ...], ...] = (
    (_ASK, _CALL, _RESULT),
    (_SYSTEM, _ASK, _CALLS, _RESULT, _OTHER, _SAID, _AGAIN),
)


def difference(style: Style, template: str) -> str | None:
    """What `template` writes from the first letter that `style` does not, or says against a conversation; None where it
    writes the same for all. Modes are probed, thoughts in the history are not.

    Raises ConfigError where jinja2 is missing.
    """
    try:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ConfigError("Checking a chat template needs jinja2. Install it: python -m pip install jinja2.") from None
    jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    jinja.filters["tojson"] = lambda value, **how: to_json(value)
    jinja.globals["raise_exception"] = _refuse
    talks: list[tuple[tuple[Message, ...], Tools]]
    talks = [(talk, tools) for talk in _TALKS for tools in ((), _TOOLS[:1])[: 1 + style.tools]]
    talks += [(talk, tools) for talk in _TOOL_TALKS for tools in ((), _TOOLS)] if style.tools else []
    try:
        made = jinja.from_string(template)
        for talk, tools in talks:
            given: dict[str, Any] = {"messages": [m.to_dict() for m in talk], "tools": list(tools) or None}
            for mode in style.modes:
                for prompt in (False, True):
                    theirs = made.render(**given, add_generation_prompt=prompt, enable_thinking=mode == "think")
                    ours = style.render(talk, tools=tools, thinking=mode == "think", add_generation_prompt=prompt)
                    if (found := _apart(theirs, text_of(ours))) is not None:
                        return found
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _apart(theirs: str, ours: str) -> str | None:
    """A few words of theirs from the first letter that is not ours; None where both are the same."""
    if theirs == ours:
        return None
    same = (a == b for a, b in zip(theirs, ours, strict=False))
    at = next((i for i, equal in enumerate(same) if not equal), min(len(theirs), len(ours)))
    return theirs[max(0, at - 20) : at + 60]


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
