"""Parts of an answer in the words of the responses API: items, and the events that tell how they grow.

| part               | item            | events while it is open                                |
|--------------------|-----------------|--------------------------------------------------------|
| reasoning          | `reasoning`     | `response.reasoning_text.delta`, `.done`               |
| content            | `message`       | `response.output_text.delta`, `.done`                  |
| call, arguments    | `function_call` | `response.function_call_arguments.delta`, `.done`      |

Each item begins with `response.output_item.added` and ends with `response.output_item.done`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from dokja.serve.api.chat_parts import Choice, joined
from dokja.serve.models import Spelling
from dokja.serve.reading import FinishReason, Part, Usage

_TEXT = {"reasoning": ("reasoning_text", "rs"), "content": ("output_text", "msg")}


class Output:
    """The items of one response; the whole response and the stream are made of the same."""

    def __init__(self, spelling: Spelling, head: Mapping[str, Any]) -> None:
        self._head, self._scores = dict(head), Choice(0, spelling).scores
        self._items: list[dict[str, Any]] = []
        self._open: str | None = None  # what the last item is made of, while it is open
        self._finish: FinishReason | None = None
        self.failed: dict[str, str] | None = None

    def add(self, parts: list[Part]) -> list[dict[str, Any]]:
        """The answer has grown -> the events that tell so."""
        told: list[dict[str, Any]] = []
        for part in joined(parts):
            if part.kind == "call":
                told += [*self._close(), *self._begin_call(part)]
            elif part.kind == "arguments":
                self._items[-1]["arguments"] += part.text
                told.append(self._event("function_call_arguments.delta", delta=part.text))
            else:
                if self._open != part.kind:
                    if not part.text:
                        continue  # scores alone open nothing
                    told += [*self._close(), *self._begin_text(part.kind)]
                told.append(self._grow(part))
        return told

    def end(self, finish: FinishReason) -> list[dict[str, Any]]:
        """The answer is over."""
        self._finish = finish
        return self._close("incomplete" if finish == "length" else "completed")

    def response(self, usage: Usage | None) -> dict[str, Any]:
        """The response as it stands; `usage` None before its end."""
        status = "failed" if self.failed else "in_progress" if self._finish is None else "completed"
        cut = self._finish == "length"
        told = None
        if usage is not None:
            told = {
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.completion,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning},
                "total_tokens": usage.prompt + usage.completion,
            }
        return {
            **self._head,
            "status": "incomplete" if cut else status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "error": self.failed,
            "output": list(self._items),
            "usage": told,
        }

    def _begin_call(self, part: Part) -> list[dict[str, Any]]:
        self._open = "call"
        item = {"id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "status": "in_progress"}
        item |= {"call_id": f"call_{secrets.token_hex(12)}", "name": part.name, "arguments": ""}
        self._items.append(item)
        return [self._item_event("added")]

    def _begin_text(self, kind: str) -> list[dict[str, Any]]:
        self._open = kind
        type_, short = _TEXT[kind]
        item: dict[str, Any] = {"id": f"{short}_{secrets.token_hex(12)}", "status": "in_progress"}
        if kind == "reasoning":
            item |= {"type": "reasoning", "summary": []}
            content: dict[str, Any] = {"type": type_, "text": ""}
        else:
            item |= {"type": "message", "role": "assistant"}
            content = {"type": type_, "text": "", "annotations": [], "logprobs": []}
        self._items.append({**item, "content": []})
        added = self._item_event("added")
        self._items[-1]["content"].append(content)
        return [added, self._event("content_part.added", content_index=0, part=dict(content))]

    def _grow(self, part: Part) -> dict[str, Any]:
        content = self._items[-1]["content"][0]
        content["text"] += part.text
        more: dict[str, Any] = {}
        if part.kind == "content":
            more["logprobs"] = self._scores(part.scores)
            content["logprobs"] = content["logprobs"] + more["logprobs"]
        return self._event(f"{_TEXT[part.kind][0]}.delta", content_index=0, delta=part.text, **more)

    def _close(self, status: str = "completed") -> list[dict[str, Any]]:
        """Ends the open item, if any."""
        if self._open is None:
            return []
        item, kind, self._open = self._items[-1], self._open, None
        item["status"] = status
        if kind == "call":
            done = self._event("function_call_arguments.done", name=item["name"], arguments=item["arguments"])
            return [done, self._item_event("done")]
        content = item["content"][0]
        more = {"logprobs": content["logprobs"]} if kind == "content" else {}
        return [
            self._event(f"{_TEXT[kind][0]}.done", content_index=0, text=content["text"], **more),
            self._event("content_part.done", content_index=0, part=dict(content)),
            self._item_event("done"),
        ]

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        where = {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}
        return {"type": f"response.{kind}", **where, **more}

    def _item_event(self, kind: str) -> dict[str, Any]:
        item = self._items[-1]
        copy = {**item, "content": list(item["content"])} if "content" in item else dict(item)
        return {"type": f"response.output_item.{kind}", "output_index": len(self._items) - 1, "item": copy}
