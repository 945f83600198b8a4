"""A scripted engine and a family of three-letter questions: the judge without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dokja.engine.api import Completion, Request
from dokja.tasks.problem import Grade, Problem
from dokja.text.chat import SPECIALS, Message
from dokja.text.tokenizer import Tokenizer, train_tokenizer

TOKENIZER: Tokenizer = train_tokenizer(["정답은 12 입니다. the answer is 12. step by step"] * 4, vocab=300)


class EchoTask:
    """The right answer to a question is its reference."""

    name, levels, needs_steps = "echo", (1,), True

    def grade(self, problem: Problem, answer: str, truncated: bool = False) -> Grade:
        if answer == "explode":
            raise ZeroDivisionError("grader")
        if truncated:
            return Grade(0.0, "truncated", "")
        return Grade(1.0, "right", "") if answer.strip() == problem.reference else Grade(0.0, "wrong", "")


def problems(n: int, languages: tuple[str, ...] = ("ko", "en")) -> list[Problem]:
    """n problems per language; the answer to number i is i."""
    return [
        Problem(f"{lang}-{i}", "echo", 1, lang, (Message("user", f"{lang} {i}"),), str(i), "", ())
        for lang in languages
        for i in range(n)
    ]


def spell(text: str) -> list[int]:
    """Ids of a text in which markers are taken at their word."""
    ids: list[int] = []
    while text:
        at, marker = min(((text.find(s), s) for s in SPECIALS if s in text), default=(len(text), ""))
        ids += TOKENIZER.encode(text[:at]) if at else []
        if marker:
            ids.append(TOKENIZER.special_id(marker))
        text = text[at + len(marker) :]
    return ids


class ScriptedEngine:
    """Answers by rule, in an order of its own, and remembers what it was asked."""

    def __init__(
        self, answer: Callable[[Request], str], *, stop_after: int | None = None, finish: str = "stop"
    ) -> None:
        self.answer, self.stop_after, self.finish = answer, stop_after, finish
        self.asked: list[Request] = []

    def complete(
        self, requests: Iterable[Request], on_done: Callable[[Completion], object] | None = None
    ) -> list[Completion]:
        requests = list(requests)
        out = {}
        for n, request in enumerate(reversed(requests)):
            if n == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            tokens = spell(self.answer(request))
            out[request.id] = Completion(
                request.id, tokens, [0.0] * len(tokens), self.finish, False, len(request.prompt)
            )
            if on_done:
                on_done(out[request.id])
        return [out[r.id] for r in requests]


def prompt_text(request: Request) -> str:
    """What the model reads, markers included."""
    return TOKENIZER.decode(request.prompt, markers=True)


def number_in(request: Request) -> str:
    """The number a question asks back."""
    return prompt_text(request).split("<|user|>")[1].split("<|end|>")[0].split()[1]
