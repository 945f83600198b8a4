"""Problems as plain text, without chat markup: what a pretraining corpus holds."""

from __future__ import annotations

import random

from dokja.tasks.problem import Problem

# Worked solutions are three styles of four: a model that reads only answers learns to guess.
_STYLES = {
    "ko": (
        "문제: {prompt}\n풀이:\n{trace}\n답: {answer}",
        "{prompt}\n{trace}\n답: {answer}",
        "문: {prompt}\n{trace} => {answer}",
        "문제: {prompt}\n답: {answer}",
    ),
    "en": (
        "Question: {prompt}\nSteps:\n{trace}\nAnswer: {answer}",
        "{prompt}\n{trace}\nAnswer: {answer}",
        "Q: {prompt}\n{trace} => {answer}",
        "Question: {prompt}\nAnswer: {answer}",
    ),
}


def documents(problem: Problem, style_rng: random.Random) -> list[str]:
    """The problem written out in one of four styles, chosen by `style_rng`; a list of one document."""
    styles = _STYLES[problem.language]
    style = styles[int(style_rng.random() * len(styles))]
    return [style.format(prompt=problem.prompt, trace=problem.trace, answer=problem.reference)]
