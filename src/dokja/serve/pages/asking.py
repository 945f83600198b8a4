"""What a page asks for: the conversation of one lane in OpenAI's words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dokja.serve.pages.endpoint import ModelCard
from dokja.serve.threads import Answer, Turn

EFFORTS = ("low", "medium", "high")


@dataclass
class Setting:
    """What is chosen for a conversation."""

    models: list[str] = field(default_factory=list)
    """One, or two side by side."""
    thinking: bool = True
    effort: str = "medium"

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Setting:
        """As it was kept; what is not there or is foreign is left at its default."""
        made = cls()
        if isinstance(kept.get("models"), list):
            made.models = [str(m) for m in kept["models"]][:2]
        made.thinking = bool(kept.get("thinking", True))
        made.effort = kept["effort"] if kept.get("effort") in EFFORTS else made.effort
        return made

    def plain(self) -> dict[str, Any]:
        """For keeping."""
        return asdict(self)


def mode_of(card: ModelCard, setting: Setting) -> tuple[bool | None, str | None]:
    """(thinking, effort) to ask a model for: None where it has no choice."""
    thinking = setting.thinking if card.hybrid else None
    return thinking, setting.effort if (card.thinks if thinking is None else thinking) else None


def body_of(
    turns: Sequence[Turn], answer: Answer, picture: Callable[[str], tuple[str, bytes]], sees: bool
) -> dict[str, Any]:
    """The request for `answer`, which belongs to the last of the turns. A model that cannot see gets no pictures."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        shown = [_image(*picture(name)) for name in turn.pictures] if sees else []
        text = {"type": "text", "text": turn.text}
        messages.append({"role": "user", "content": [*shown, text] if shown else turn.text})
        said = turn.answer(answer.lane)
        if turn is turns[-1]:
            break
        if said is not None and said.content:
            messages.append({"role": "assistant", "content": said.content})
        else:
            messages.pop()  # a question that got no answer would stand beside the next one
    body: dict[str, Any] = {"model": answer.model, "messages": messages, "stream_options": {"include_usage": True}}
    if answer.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": answer.thinking}
    if answer.effort is not None:
        body["reasoning_effort"] = answer.effort
    return body


def _image(kind: str, content: bytes) -> dict[str, Any]:
    url = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
