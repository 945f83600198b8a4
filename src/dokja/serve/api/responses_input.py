"""The input of the responses API as a conversation.

What a model said in one turn comes as several items: its thought, its words, its calls. They become one message again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dokja.serve.api.messages import read_messages
from dokja.serve.asking import Refusal
from dokja.serve.limits import Limits
from dokja.text.chat import Message

_TEXTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")


def conversation(given: str | Sequence[Mapping[str, Any]], instructions: str | None, limits: Limits) -> list[Message]:
    """The messages. Raises Refusal that names the item at fault."""
    return read_messages(turns_of(given, instructions), limits)


def turns_of(given: str | Sequence[Mapping[str, Any]], instructions: str | None) -> list[dict[str, Any]]:
    """The conversation as the chat API spells it. Raises Refusal that names the item at fault."""
    turns: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        turns.append({"role": "user", "content": given})
    else:
        for i, item in enumerate(given):
            _add(turns, item, f"input[{i}]")
    return turns


def _add(turns: list[dict[str, Any]], item: Mapping[str, Any], where: str) -> None:
    kind = item.get("type") or "message"
    if kind == "message":
        turn = {"role": item.get("role"), "content": _content(item.get("content"), where)}
        if turn["role"] != "assistant":
            turns.append(turn)
            return
        said = _assistant(turns)
        before = said.get("content") or ""
        said["content"] = before + (turn["content"] if isinstance(turn["content"], str) else _joined(turn["content"]))
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        _assistant(turns).setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        output = item.get("output")
        told = output if isinstance(output, str) else _content(output, where)
        turns.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": told})
    elif kind == "reasoning":
        thought = _joined(_content(item.get("content") or [], where))
        if thought:
            _assistant(turns)["reasoning_content"] = thought
    else:
        raise Refusal(f"{where}: Items of the type {kind!r} are not known here. Leave them out.", where)


def _assistant(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's turn that is being put together."""
    if not turns or turns[-1]["role"] != "assistant":
        turns.append({"role": "assistant", "content": ""})
    return turns[-1]


def _content(content: Any, where: str) -> Any:
    """Parts under the names of chat completions."""
    if not isinstance(content, list):
        return content
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _TEXTS:
            parts.append({"type": "text", "text": part.get("text", part.get("refusal"))})
        elif kind == "input_image":
            parts.append({"type": "image_url", "image_url": part.get("image_url")})
        else:
            raise Refusal(f"{where}: Parts of the type {kind!r} are not known here. Leave them out.", where)
    return parts


def _joined(parts: Any) -> str:
    texts = [p.get("text") for p in parts] if isinstance(parts, list) else []
    return "".join(t for t in texts if isinstance(t, str))
