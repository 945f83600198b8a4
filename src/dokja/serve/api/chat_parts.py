"""Parts of an answer in the words of the chat completions API: chunks of a stream, and the message that they make."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from dokja.serve.models import Spelling
from dokja.serve.reading import FinishReason, Part, Scored, Usage
from dokja.serve.turn import Done


class Choice:
    """One choice; what the chunks of its stream say is what `whole` says."""

    def __init__(self, index: int, spelling: Spelling) -> None:
        self.index, self._spelling = index, spelling
        self.begun = False
        self.finish: FinishReason = "stop"
        self._texts: dict[str, list[str]] = {"reasoning": [], "content": []}
        self._calls: list[dict[str, Any]] = []
        self._scores: list[dict[str, Any]] | None = None

    def add(self, parts: list[Part]) -> None:
        """The answer has grown."""
        for part in parts:
            if part.kind == "call":
                self._calls.append(_call(part))
            elif part.kind == "arguments":
                self._calls[part.index]["function"]["arguments"] += part.text
            else:
                self._texts[part.kind].append(part.text)
                if part.scores:
                    self._scores = [*(self._scores or []), *self.scores(part.scores)]

    def whole(self) -> dict[str, Any]:
        """The choice of a response in one piece."""
        reasoning, content = ("".join(self._texts[kind]) for kind in ("reasoning", "content"))
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if self._calls else "")}
        message["refusal"] = None
        if reasoning:
            message["reasoning_content"] = reasoning
        if self._calls:
            message["tool_calls"] = self._calls
        scores = None if self._scores is None else {"content": self._scores, "refusal": None}
        return {"index": self.index, "message": message, "logprobs": scores, "finish_reason": self.finish}

    def scores(self, scored: Iterable[Scored]) -> list[dict[str, Any]]:
        """Logprobs as the API says them."""
        return [
            {**self._token(s.token, s.logprob), "top_logprobs": [self._token(t, p) for t, p in s.top]} for s in scored
        ]

    def _token(self, token: int, logprob: float | None) -> dict[str, Any]:
        raw = self._spelling.decode_bytes([token])
        shown = raw.decode("utf-8", "replace") if raw else self._spelling.decode([token], markers=True)
        return {"token": shown, "logprob": max(logprob or 0.0, -9999.0), "bytes": list(raw)}


def chunks(choice: Choice, item: list[Part] | Done) -> Iterator[dict[str, Any]]:
    """The `choices` entries of a stream's chunks; what came at once and is of one kind goes in one of them."""
    if not choice.begun:
        choice.begun = True
        yield _chunk(choice, {"role": "assistant", "content": ""})
    if isinstance(item, Done):
        yield _chunk(choice, {}, finish=item.finish)
        return
    for part in joined(item):
        if part.kind == "content":
            scores = {"content": choice.scores(part.scores), "refusal": None} if part.scores else None
            yield _chunk(choice, {"content": part.text}, scores)
        elif part.kind == "reasoning":
            yield _chunk(choice, {"reasoning_content": part.text})
        elif part.kind == "call":
            yield _chunk(choice, {"tool_calls": [{"index": part.index, **_call(part)}]})
        else:
            yield _chunk(choice, {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]})


def joined(parts: list[Part]) -> list[Part]:
    """Neighbours of one kind as one part."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if last is not None and part.kind != "call" and (last.kind, last.index) == (part.kind, part.index):
            out[-1] = Part(part.kind, last.text + part.text, part.index, "", last.scores + part.scores)
        else:
            out.append(part)
    return out


def usage_of(usage: Usage) -> dict[str, Any]:
    """Usage in the API's words."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _chunk(
    choice: Choice, delta: dict[str, Any], scores: dict[str, Any] | None = None, finish: str | None = None
) -> dict[str, Any]:
    return {"index": choice.index, "delta": delta, "logprobs": scores, "finish_reason": finish}


def _call(part: Part) -> dict[str, Any]:
    function = {"name": part.name, "arguments": ""}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
