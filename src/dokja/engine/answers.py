"""From a completion to thought and answer, and from an answer to its grade: what the judge and the RL sampler share."""

from __future__ import annotations

from dataclasses import dataclass

from dokja.engine.api import Completion
from dokja.tasks.problem import Grade, Problem
from dokja.tasks.registry import TASKS
from dokja.text.chat import END, THINK, THINK_END, Mode
from dokja.text.parse import StreamParser
from dokja.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Answer:
    """What the chat contract makes of a completion."""

    raw: str
    reasoning: str
    content: str
    reasoning_tokens: int
    wrong_mode: bool


def read_answer(completion: Completion, tokenizer: Tokenizer, mode: Mode) -> Answer:
    """Split what the model wrote into thought and answer, and see whether it kept to the mode asked for.

    Wrong mode, at once: any marker of a thought. Wrong mode, thinking: a thought left open or left empty, or a second
    one. A marker spelled in ordinary letters inside the answer counts as well: a reader would see it.
    """
    close, stop = tokenizer.special_id(THINK_END), tokenizer.special_id(END)
    thinking = mode == "think"
    parser, stream = StreamParser(thinking), tokenizer.stream()
    pieces = [piece for token in completion.tokens for piece in stream.feed(token)]
    pieces += stream.flush()
    for piece in pieces:
        parser.feed(piece)
    message = parser.finish()
    markers = [p.text for p in pieces if p.special and p.text in (THINK, THINK_END)]
    spelled = THINK in message.content or THINK_END in message.content
    reasoning = message.reasoning or ""
    if thinking:
        wrong = markers != [THINK_END] or not reasoning.strip() or parser.leaked or spelled
        written = [t for t in completion.tokens if t != stop]
        reasoning_tokens = written.index(close) if close in written else len(written)
    else:
        wrong = bool(markers) or parser.leaked or spelled
        reasoning_tokens = 0
    return Answer("".join(p.text for p in pieces), reasoning, message.content, reasoning_tokens, wrong)


def grade_answer(problem: Problem, answer: str, truncated: bool) -> Grade:
    """Grade by the problem's own family. A grader that raises is counted as such, apart from wrong answers."""
    try:
        return TASKS[problem.task].grade(problem, answer, truncated=truncated)
    except Exception as error:  # one broken grader must not lose the suite
        return Grade(0.0, "grader_failed", f"{type(error).__name__}: {error}")
