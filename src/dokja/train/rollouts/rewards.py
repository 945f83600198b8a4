"""What an answer earns: being right pays; everything else is small, separate, and never pays for a wrong answer.

| part     | value            | when                                                                              |
|----------|------------------|-----------------------------------------------------------------------------------|
| correct  | the grade        | 0 in the wrong language, and 0 at once where the thought shows                    |
| concise  | up to c.concise  | clean right answers, by length among each other: the shortest all, the longest 0  |
| language | -c.language      | letters of a script that neither the question nor its language has                |
| format   | -c.format        | any of `violations`                                                               |
| overlong | to -c.overlong   | the last c.overlong_cache tokens before c.max_tokens (DAPO, 2503.14476, eq. 13)   |
| judge    | up to its weight | a judge model's score of the final answer, where one is configured                |

The reward is the sum of the parts. A clean answer violates nothing and keeps to the language. Only clean answers can
earn `concise` and `judge`: else an empty thought, always the shortest, would be paid more than it is fined.

Covered: empty, endless, misplaced and forced thoughts; a thought written as the answer; many candidates; the answer
said again and again; filling; another language; stray markers. Not covered: a short thought that says nothing, and at
once a few words of working without numbers, where the answer is right all the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, Protocol

from dokja.tasks.extract import LONGEST, tidy
from dokja.text.chat import END, SPECIALS, THINK_END
from dokja.text.unicode import nfc
from dokja.train.rollouts.record import Rollout

OWN_SCRIPTS = {"ko": frozenset({"HANGUL"}), "en": frozenset({"LATIN"})}
"""Language -> the scripts it is written in, as Unicode names them."""

_COMMAND = re.compile(r"\\(?:boxed|frac|sqrt|times|cdot|div)(?![A-Za-z])")  # LaTeX is no language
_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LABEL = re.compile(r"(?<![A-Za-z])[B-HJ-Z](?![A-Za-z])")  # A and I are words
_WORD = re.compile(r"[^\W\d_]+")
_ECHO = re.compile(r"(?<!\w)([^\W\d_]{2,})(?:\W+\1(?!\w))+")
_HIDDEN_THOUGHT = frozenset({"wrong_mode", "marker", "overfull"})
"""Violations that at once are a thought, or the room for one."""


class Scorer(Protocol):
    """A judge model as the rewards see it."""

    def scores(self, items: Sequence[tuple[str, str]]) -> list[float | None]:
        """A score in [0, 1] for each (question, final answer), None where there is none."""
        ...


def reward_group(group: Sequence[Rollout], c: Any, judge: Scorer | None = None) -> None:
    """Fill `reward` and `parts` of the answers to one prompt in one mode; the same answers get the same rewards.

    `c` has the weights concise, format, language and overlong, with overlong_cache and max_tokens in tokens, and
    judge.weight where `judge` is given. Raises ValueError for answers to different prompts.
    """
    if len({(r.step, r.group, r.mode) for r in group}) > 1:
        raise ValueError("These answers are to different prompts or modes, so their lengths say nothing.")
    foreign = [_foreign(r) for r in group]
    broken = [violations(r) for r in group]
    clean = [not f and not b for f, b in zip(foreign, broken, strict=True)]
    brevity = _brevity(
        [len(r.tokens) for r in group], [r.score >= 1 and ok for r, ok in zip(group, clean, strict=True)]
    )
    for r, f, b, brief in zip(group, foreign, broken, brevity, strict=True):
        void = f or (r.mode == "direct" and not _HIDDEN_THOUGHT.isdisjoint(b))
        r.parts = {
            "correct": 0.0 if void else r.score,
            "concise": c.concise * brief,
            "language": -c.language if f else 0.0,
            "format": -c.format if b else 0.0,
            "overlong": 0.0 - c.overlong * overlong(len(r.tokens), c.max_tokens, c.overlong_cache),
        }
    if judge is not None:
        for r, part in zip(group, _judged(group, clean, c.judge.weight, judge), strict=True):
            r.parts["judge"] = part
    for r in group:
        r.reward = sum(r.parts.values())


def is_clean(r: Rollout) -> bool:
    """Whether an answer violates nothing and keeps to its language; what may serve as a good example."""
    return not violations(r) and not _foreign(r)


def violations(r: Rollout) -> list[str]:
    """How an answer breaks its mode: any of wrong_mode, empty_thought, forced, cut_off, marker, overfull."""
    thinking = r.mode == "think"
    own = {SPECIALS.index(END), SPECIALS.index(THINK_END)} if thinking else {SPECIALS.index(END)}
    found = {
        "wrong_mode": r.wrong_mode or (not thinking and bool(r.reasoning.strip())),
        "empty_thought": thinking and not any(c.isalnum() for c in r.reasoning),
        "forced": r.forced,
        "cut_off": r.finish != "stop",
        # Padding and whole tool calls leave no trace in the answer, yet give a model room to compute.
        "marker": any(t < len(SPECIALS) and t not in own for t in r.tokens) or any(m in r.answer for m in SPECIALS),
        "overfull": overfull(r.answer, r.reference),
    }
    return [name for name, yes in found.items() if yes]


def overfull(answer: str, reference: str) -> bool:
    """Whether `answer` holds more than one answer like `reference` and a few words around it.

    More is a thought written where none belongs, a list of candidates, filling, or the same thing over and over: a
    second line; more numbers, labels or numbered steps than the reference has; many words or signs; a word said twice
    in a row.
    """
    text, right = tidy(answer), tidy(reference)
    if "\n" in text or len(answer) > LONGEST:
        return True
    # Room for `x=12`, `P.M.`, "The ball is under cup K." and `**\\boxed{12}**`; where labels are answers, for no other.
    spare = (0, 1, 0 if _LABEL.search(right) else 1 if len(right) == 1 else 2, 8, 24)
    limits = (n + more for n, more in zip(_contents(right, right), spare, strict=True))
    if any(n > limit for n, limit in zip(_contents(_COMMA.sub("", text), answer), limits, strict=True)):
        return True
    if len(right) == 1 and _WORD.findall(text).count(right) > 1:
        return True
    text, right = text.casefold(), right.casefold()
    again = len(right) > 1 and any(c.isalpha() for c in right) and text.count(right) > 1
    return again or len(_ECHO.findall(text)) > len(_ECHO.findall(right))


def _contents(text: str, raw: str) -> tuple[int, int, int, int, int]:
    """Numbers, signs of steps, labels and words in `text`, and what is neither letter nor digit in `raw`."""
    steps = sum((c == "=") + 2 * (c.isnumeric() and not c.isdecimal()) for c in text)  # a numbered one is no `x=12`
    others = sum(not c.isalnum() for c in raw)
    return len(_NUMBER.findall(text)), steps, len(_LABEL.findall(text)), len(_WORD.findall(text)), others


def wrong_language(text: str, prompt: str, language: str, reference: str = "") -> bool:
    """Whether `text` uses a script that neither `prompt` nor its language (ko, en; else the prompt's own) has.

    A foreign script of the prompt or the `reference` (labels, variables, a word to spell) may be used letter by letter,
    and in words spelled with their letters; so the prompt `B>C, C>D` permits `C` and no English sentence. Where the
    reference is Hangul, as in an image that is read, any Hangul may come.
    """
    given = [c for c in nfc(f"{prompt} {reference}").casefold() if c.isalpha()]
    scripts, letters = {_script(c) for c in given}, set(given)
    own = (OWN_SCRIPTS.get(language) or scripts) | ({_script(c) for c in reference} & {"HANGUL"})
    for script, run in groupby(nfc(_COMMAND.sub(" ", text)).casefold(), key=_script):
        if script and script not in own:
            word = list(run)
            if script not in scripts or (len(word) > 1 and not letters.issuperset(word)):
                return True
    return False


def overlong(length: int, most: int, cache: int) -> float:
    """The soft punishment's share in [0, 1]: 0 up to `most - cache` tokens, from there a line to 1 at `most`."""
    return min(1.0, max(0.0, (length - most + cache) / cache)) if cache > 0 else 0.0


def _foreign(r: Rollout) -> bool:
    return wrong_language(f"{r.reasoning}\n{r.answer}", r.prompt, r.language, r.reference)


@lru_cache(maxsize=8192)
def _script(char: str) -> str:
    """The script of a letter as the first word of its Unicode name (HANGUL, LATIN, CJK, ...), "" for other signs."""
    name = unicodedata.name(char, "?").split() if char.isalpha() else [""]
    return name[1] if name[0] in ("FULLWIDTH", "HALFWIDTH") else name[0]


def _brevity(lengths: Sequence[int], eligible: Sequence[bool]) -> list[float]:
    """1 for the shortest of the eligible, 0 for the longest, a line between; 0 for others and where all are equal."""
    among = [n for n, yes in zip(lengths, eligible, strict=True) if yes]
    if not among or min(among) == max(among):
        return [0.0] * len(lengths)
    span = max(among) - min(among)
    return [(max(among) - n) / span if yes else 0.0 for n, yes in zip(lengths, eligible, strict=True)]


def _judged(group: Sequence[Rollout], clean: Sequence[bool], weight: float, judge: Scorer) -> list[float]:
    """The judge's part of each answer. Where one score is missing the whole group goes without: none is invented."""
    asked = [(r.prompt, r.answer) for r, ok in zip(group, clean, strict=True) if ok]
    scores = judge.scores(asked) if asked else []
    if None in scores:
        return [0.0] * len(group)
    given = iter(scores)
    return [weight * (next(given) or 0.0) if ok else 0.0 for ok in clean]
