"""The chat contract: messages in, segments out. Training, judging, serving and the exported template share these bytes.

    <|bos|><|system|>S<|end|><|user|>U<|end|><|assistant|><think>R</think>A<|end|>

| turn                                  | thinking                     | at once                      |
|---------------------------------------|------------------------------|------------------------------|
| the prompt for a new answer           | `<|assistant|><think>`       | `<|assistant|><think></think>` |
| what the model writes (bears the loss)| `R</think>A<|end|>`          | `A<|end|>`                   |
| answers before the last user message  | `<think></think>A`, no loss  | `<think></think>A`, no loss  |

There are no newlines around markers (tokens are dear for a small model). Markers travel as segments of their own, so a
person who types `<|end|>` gets ordinary text: only `Segment.special` makes a marker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dokja.errors import DokjaError

Mode = Literal["think", "direct"]
"""A thought first, or the answer at once."""
MODES: tuple[Mode, ...] = get_args(Mode)
PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
SYSTEM, USER, ASSISTANT, TOOL = "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
THINK, THINK_END, CALL, CALL_END = "<think>", "</think>", "<tool_call>", "</tool_call>"
SPECIALS: tuple[str, ...] = (PAD, BOS, END, SYSTEM, USER, ASSISTANT, TOOL, THINK, THINK_END, CALL, CALL_END)
"""The markers in the order of their token ids, 0 to 10."""

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
_MARKER = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool; `arguments` holds JSON values only."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        """The call as it stands between its markers."""
        return _json({"name": self.name, "arguments": self.arguments})


@dataclass(frozen=True)
class Message:
    """One turn. No thought and an empty thought are the same thing: `reasoning=""` becomes None."""

    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    images: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DokjaError(f"A message has the role {self.role!r}. Use one of {', '.join(ROLES)}.")
        if self.role != "assistant" and (self.reasoning or self.tool_calls):
            raise DokjaError(
                f"A {self.role} message carries reasoning or tool calls. Only assistant messages may: leave them out."
            )
        if self.reasoning == "":
            object.__setattr__(self, "reasoning", None)

    def to_dict(self) -> dict[str, Any]:
        """The message in the shape of OpenAI-compatible APIs, which the exported template also reads."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            out["reasoning_content"] = self.reasoning
        if self.tool_calls:
            out["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in self.tool_calls
            ]
        return out

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Message:
        """Read a message of an API or a data file; raises DokjaError where it is not one."""
        content = raw.get("content")
        if not isinstance(content, str | None):
            raise DokjaError("A message's content must be text. Send parts of other kinds (images) to a vision model.")
        calls = []
        for call in raw.get("tool_calls") or ():
            body = call.get("function", call) if isinstance(call, Mapping) else {}
            arguments = body.get("arguments")
            try:
                arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            except ValueError:
                arguments = None
            if not isinstance(body.get("name"), str) or not isinstance(arguments, dict):
                raise DokjaError(f"A tool call cannot be read: {call!r}. Give a name and a JSON object of arguments.")
            calls.append(ToolCall(body["name"], arguments))
        reasoning = raw.get("reasoning_content") or raw.get("reasoning") or None
        return cls(raw.get("role"), content or "", reasoning, tuple(calls))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a rendered conversation: a marker (`special`) or ordinary text, and whether the model learns it."""

    text: str
    special: bool
    loss: bool = False


def render(
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool = True,
    add_generation_prompt: bool = False,
) -> list[Segment]:
    """Lay out a conversation as segments; ordinary text never has ordinary text beside it.

    `tools` are JSON schemas, declared in the system turn. Thoughts are kept only after the last user message (a tool
    loop sees its own), and only when `thinking`. The loss lies on what the model itself writes there. The segments of
    `messages[:-1]` with a generation prompt are a prefix of those of `messages` when the last one is the assistant's.
    Raises DokjaError for images and for tools or arguments that are not JSON.
    """
    out = [Segment(BOS, True)]
    if tools and not (messages and messages[0].role == "system"):
        out += _turn("system", tools_text(tools))
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    for i, message in enumerate(messages):
        if message.images:
            raise DokjaError("This conversation holds images, which the text template cannot show. Remove them.")
        if message.role != "assistant":
            text = message.content
            if i == 0 and tools and message.role == "system":
                text += ("\n\n" if text else "") + tools_text(tools)
            out += _turn(message.role, text)
        elif i > last_user:
            out += generation_prompt(thinking)
            out += answer(message, thinking)
        else:
            out += generation_prompt(False)
            out += (Segment(s.text, s.special) for s in answer(message, False))
    if add_generation_prompt:
        out += generation_prompt(thinking)
    return out


def generation_prompt(thinking: bool) -> list[Segment]:
    """What stands before the model's first own token; closing the thought is the model's choice only when thinking."""
    opened = [Segment(ASSISTANT, True), Segment(THINK, True)]
    return opened if thinking else [*opened, Segment(THINK_END, True)]


def answer(message: Message, thinking: bool) -> list[Segment]:
    """What the model itself writes for `message` after the generation prompt; all of it bears the loss."""
    return list(_answer(message, thinking))


def _answer(message: Message, thinking: bool) -> Iterator[Segment]:
    if thinking:
        if message.reasoning:
            yield Segment(message.reasoning, False, True)
        yield Segment(THINK_END, True, True)
    if message.content:
        yield Segment(message.content, False, True)
    for call in message.tool_calls:
        yield Segment(CALL, True, True)
        yield Segment(call.json(), False, True)
        yield Segment(CALL_END, True, True)
    yield Segment(END, True, True)


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """The declaration of tools in the system turn: a heading and one JSON schema a line."""
    return "# Tools\n" + "\n".join(_json(tool) for tool in tools)


def text_of(segments: Sequence[Segment]) -> str:
    """The rendered conversation as one string, the same that the exported template gives."""
    return "".join(s.text for s in segments)


def _turn(role: str, text: str) -> list[Segment]:
    body = [Segment(text, False)] if text else []
    return [Segment(_MARKER[role], True), *body, Segment(END, True)]


def _json(value: Any) -> str:
    """JSON with Python's default separators: the only form which every Jinja runtime's `tojson` also writes."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as err:
        raise DokjaError(
            f"A tool schema or argument is no JSON ({err}). Use text, finite numbers, lists, maps."
        ) from err
