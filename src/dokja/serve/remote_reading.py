"""What another engine streams, as parts of an answer: one spelling of thoughts, calls, scores and usage for all.

| it says                                              | it becomes                        |
|------------------------------------------------------|-----------------------------------|
| `reasoning_content` or `reasoning`                   | a thought                         |
| `<think>...</think>` at the beginning of the content | a thought: nobody parsed it there |
| calls without ids or indices, arguments as objects   | numbered calls, arguments as text |
| no usage                                             | a token for every delta           |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dokja.serve.reading import FinishReason, Part, Scored, Usage
from dokja.text.styles import STYLES

MARKS = sorted({style.thought for style in STYLES.values() if style.thought is not None})
"""Pairs of markers around thoughts."""


class Words:
    """Tokens that are known by their text alone, numbered as they come: the part of a tokenizer that answers need."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, bytes], int] = {}
        self._words: list[tuple[str, bytes]] = []

    def add(self, text: str, raw: bytes | None = None) -> int:
        """The number of a token."""
        word = (text, text.encode("utf-8", "replace") if raw is None else raw)
        if word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]

    def decode(self, ids: Iterable[int], *, markers: bool = False) -> str:
        """Their texts."""
        return "".join(self._words[i][0] for i in ids)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Their bytes."""
        return b"".join(self._words[i][1] for i in ids)


class Spelled:
    """Takes a thought out of content that begins with one, however it is cut."""

    def __init__(self) -> None:
        self.thinking = False
        self._begun = False
        self._held = ""
        self._close = ""
        self._bare = False  # right behind a marker: blank lines are the format's, not the answer's

    def feed(self, text: str) -> list[Part]:
        """More of the content -> what is certain."""
        self._held += text
        parts: list[Part] = []
        if not self._begun:
            seen = self._held.lstrip()
            for opening, closing in MARKS:
                if seen.startswith(opening):
                    self._begun = self.thinking = self._bare = True
                    self._close, self._held = closing, seen[len(opening) :]
            if not self._begun:
                if any(opening.startswith(seen) for opening, _ in MARKS):
                    return []
                self._begun = True
        if self.thinking:
            thought, mark, rest = self._held.partition(self._close)
            sure = thought if mark else thought[: len(thought) - _overlap(thought, self._close)]
            shown = sure.rstrip("\n")  # a line's end before the marker is the format's too
            self._held = rest if mark else thought[len(shown) :]
            if self._bare:
                shown = shown.lstrip("\n")
                self._bare = not shown
            parts += [Part("reasoning", shown)] if shown else []
            if not mark:
                return parts
            self.thinking, self._bare = False, True
        if self._bare:
            self._held = self._held.lstrip("\n")
            self._bare = not self._held
        parts += [Part("content", self._held)] if self._held else []
        self._held = ""
        return parts

    def flush(self) -> list[Part]:
        """The content is over."""
        held, self._held = self._held, ""
        if self.thinking:
            held = held.rstrip("\n")
        return [Part("reasoning" if self.thinking else "content", held)] if held else []


class RemoteReader:
    """One answer of another engine. `usage` counts along."""

    def __init__(self, words: Words, usage: Usage | None = None, scores: bool = False) -> None:
        self.usage = usage or Usage()
        self.finish: FinishReason | None = None
        self._words, self._wants_scores = words, scores
        self._spelled: Spelled | None = Spelled()
        self._calls: dict[Any, int] = {}  # its index or id -> ours
        self._last = 0

    def feed(self, event: Mapping[str, Any]) -> list[Part]:
        """An event of its stream -> parts."""
        parts: list[Part] = []
        for choice in event.get("choices") or ():
            before = self.usage.completion, self.usage.reasoning
            delta = choice.get("delta")
            parts += self._text(choice) if delta is None else self._delta(delta, choice.get("logprobs"))
            grown = bool(parts)
            if grown:
                thought = any(p.kind == "reasoning" for p in parts)
                self.usage.completion, self.usage.reasoning = before[0] + 1, before[1] + thought
            if choice.get("finish_reason"):
                self.finish = _FINISH.get(choice["finish_reason"], "stop")
        if isinstance(event.get("usage"), Mapping):
            self._count(event["usage"])
        return parts

    def end(self) -> list[Part]:
        """The stream is over -> what was held back."""
        parts = self._spelled.flush() if self._spelled is not None else []
        if self._calls and self.finish in (None, "stop"):
            self.finish = "tool_calls"
        return parts

    def _delta(self, delta: Mapping[str, Any], logprobs: Any) -> list[Part]:
        """Of a chat."""
        parts: list[Part] = []
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            self._spelled = None  # it parses thoughts itself
            parts.append(Part("reasoning", thought))
        content = delta.get("content") or delta.get("refusal") or ""
        scores = self._scores(logprobs)
        if self._spelled is not None and content:
            shown = self._spelled.feed(content)
            scores = () if self._spelled.thinking else scores
            parts += shown
        elif content:
            parts.append(Part("content", content))
        if scores and not thought:
            parts.append(Part("content", scores=scores))
        for call in delta.get("tool_calls") or ():
            parts += self._call(call)
        return parts

    def _text(self, choice: Mapping[str, Any]) -> list[Part]:
        """Of a plain completion."""
        self._spelled = None
        told: Any = choice.get("logprobs")
        scores: tuple[Scored, ...] = ()
        if self._wants_scores and isinstance(told, Mapping):
            tops = told.get("top_logprobs") or [None] * len(told.get("tokens") or ())
            scores = tuple(
                Scored(self._words.add(token), p, tuple((self._words.add(t), q) for t, q in (top or {}).items()))
                for token, p, top in zip(told.get("tokens") or (), told.get("token_logprobs") or (), tops, strict=False)
            )
        text = choice.get("text") or ""
        return [Part("content", text, scores=scores)] if text or scores else []

    def _scores(self, logprobs: Any) -> tuple[Scored, ...]:
        if not self._wants_scores or not isinstance(logprobs, Mapping):
            return ()
        return tuple(
            Scored(
                self._word(t), t["logprob"], tuple((self._word(o), o["logprob"]) for o in t.get("top_logprobs") or ())
            )
            for t in logprobs.get("content") or ()
        )

    def _word(self, told: Mapping[str, Any]) -> int:
        raw = told.get("bytes")
        return self._words.add(told["token"], None if raw is None else bytes(raw))

    def _call(self, call: Mapping[str, Any]) -> list[Part]:
        function = call.get("function") or {}
        known = call.get("id") if call.get("index") is None else call["index"]
        parts: list[Part] = []
        if function.get("name") and (known is None or known not in self._calls):
            self._last = len(self._calls)
            self._calls[object() if known is None else known] = self._last
            parts.append(Part("call", index=self._last, name=function["name"]))
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = json.dumps(arguments, ensure_ascii=False)
        if arguments and self._calls:
            parts.append(Part("arguments", arguments, index=self._calls.get(known, self._last)))
        return parts

    def _count(self, told: Mapping[str, Any]) -> None:
        usage = self.usage
        usage.prompt = _number(told, "prompt_tokens", usage.prompt)
        usage.completion = _number(told, "completion_tokens", usage.completion)
        usage.cached = _number(told.get("prompt_tokens_details"), "cached_tokens", usage.cached)
        thought = _number(told.get("completion_tokens_details"), "reasoning_tokens", usage.reasoning)
        usage.reasoning = min(thought, usage.completion)


_FINISH: dict[str, FinishReason] = {"length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}


def _number(told: Any, key: str, otherwise: int) -> int:
    value = told.get(key) if isinstance(told, Mapping) else None
    return value if isinstance(value, int) else otherwise


def _overlap(text: str, mark: str) -> int:
    """Letters at the end of `text` that `mark` may begin with."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)
