"""The chat contract: messages in, segments out. Training, judging, serving and the exported template share these bytes.

    <|bos|><|system|>S<|end|><|user|>U<|end|><|assistant|><think>R</think>A<|end|>

Images of a user's or a tool's turn stand before its text, one marker each (`<|user|><|image|><|image|>U<|end|>`), which
`text.tokenizer.expand` repeats for as many tokens as the image takes.

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
from typing import TYPE_CHECKING, Any, Literal, get_args

from dokja.errors import DataError, DokjaError

if TYPE_CHECKING:
    import numpy as np

Mode = Literal["think", "direct"]
"""A thought first, or the answer at once."""
MODES: tuple[Mode, ...] = get_args(Mode)
PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
SYSTEM, USER, ASSISTANT, TOOL = "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
THINK, THINK_END, CALL, CALL_END = "<think>", "</think>", "<tool_call>", "</tool_call>"
IMAGE = "<|image|>"
SPECIALS: tuple[str, ...] = (PAD, BOS, END, SYSTEM, USER, ASSISTANT, TOOL, THINK, THINK_END, CALL, CALL_END, IMAGE)
"""The markers in the order of their token ids, 0 to 11."""

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
SHOWN: tuple[str, ...] = ("user", "tool")
"""Roles whose turns may hold images."""
_MARKER = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool; `arguments` holds JSON values only."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        """The call as it stands between its markers."""
        return to_json({"name": self.name, "arguments": self.arguments})


@dataclass(frozen=True)
class Message:
    """One turn. No thought and an empty thought are the same thing: `reasoning=""` becomes None. `images` are arrays of
    uint8 [height, width, 3]; messages are equal when their pixels are."""

    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    images: tuple[np.ndarray, ...] = field(default=(), compare=False)  # arrays have no truth of their own: see __eq__

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DokjaError(f"A message has the role {self.role!r}. Use one of {', '.join(ROLES)}.")
        if self.role != "assistant" and (self.reasoning or self.tool_calls):
            raise DokjaError(
                f"A {self.role} message carries reasoning or tool calls. Only assistant messages may: leave them out."
            )
        if self.images:
            from dokja.text.images import check_pixels

            if self.role not in SHOWN:
                raise DokjaError(f"A {self.role} message carries images. Only user and tool messages may: move them.")
            object.__setattr__(self, "images", tuple(map(check_pixels, self.images)))
        if self.reasoning == "":
            object.__setattr__(self, "reasoning", None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        words = [(m.role, m.content, m.reasoning, m.tool_calls, len(m.images)) for m in (self, other)]
        pairs = zip(self.images, other.images, strict=False)
        return words[0] == words[1] and all(a.shape == b.shape and bool((a == b).all()) for a, b in pairs)

    def to_dict(self) -> dict[str, Any]:
        """The message in the shape of OpenAI-compatible APIs, which the exported template also reads; images become
        data URLs of PNGs."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.images:
            from dokja.text.images import data_url

            parts: list[dict[str, Any]] = [
                {"type": "image_url", "image_url": {"url": data_url(i)}} for i in self.images
            ]
            out["content"] = parts + ([{"type": "text", "text": self.content}] if self.content else [])
        if self.reasoning is not None:
            out["reasoning_content"] = self.reasoning
        if self.tool_calls:
            out["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in self.tool_calls
            ]
        return out

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Message:
        """Read a message of an API or a data file; raises DokjaError where it is not one.

        Content may be a list of parts: texts, which are joined by line ends, and images as data URLs.
        """
        content, images = _parts(raw.get("content"))
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
        return cls(raw.get("role"), content, reasoning, tuple(calls), images)  # type: ignore[arg-type]


def _parts(content: Any) -> tuple[str, tuple[np.ndarray, ...]]:
    """The text and the images of a message's content."""
    if isinstance(content, str | None):
        return content or "", ()
    texts, images = [], []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image", "image_url"):
            images.append(_image(part))
        else:
            raise DokjaError(
                "A message's content must be text, or a list of text and image_url parts. Leave other parts out."
            )
    return "\n".join(filter(None, texts)), tuple(images)


def _image(part: Mapping[str, Any]) -> np.ndarray:
    """The pixels of an image part: an array, or a data URL. Paths and addresses are not followed: whoever sends a
    message could read them through us."""
    from dokja.text.images import check_pixels, read_image

    source = part.get(part["type"], part.get("url"))
    if isinstance(source, Mapping):
        source = source.get("url")
    if not isinstance(source, str):
        return check_pixels(source)
    if not source.startswith("data:"):
        raise DataError(f"The image {source[:80]!r} is no data URL. Send its bytes: data:image/png;base64,...")
    return read_image(source)


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
    Raises DokjaError for tools or arguments that are not JSON.
    """
    out = [Segment(BOS, True)]
    if tools and not (messages and messages[0].role == "system"):
        out += _turn("system", tools_text(tools))
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    for i, message in enumerate(messages):
        if message.role != "assistant":
            text = message.content
            if i == 0 and tools and message.role == "system":
                text += ("\n\n" if text else "") + tools_text(tools)
            out += _turn(message.role, text, len(message.images))
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
    return "# Tools\n" + "\n".join(to_json(tool) for tool in tools)


def text_of(segments: Sequence[Segment]) -> str:
    """The rendered conversation as one string, the same that the exported template gives."""
    return "".join(s.text for s in segments)


def _turn(role: str, text: str, images: int = 0) -> list[Segment]:
    body = [Segment(text, False)] if text else []
    return [Segment(_MARKER[role], True), *[Segment(IMAGE, True)] * images, *body, Segment(END, True)]


def to_json(value: Any, *, sort_keys: bool = False) -> str:
    """JSON with Python's default separators: the only form which every Jinja runtime's `tojson` also writes."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=sort_keys)
    except (TypeError, ValueError) as err:
        raise DokjaError(
            f"A tool schema or argument is no JSON ({err}). Use text, finite numbers, lists, maps."
        ) from err
