"""Asking the engine: problems in, graded rollouts out, G answers to each. A request's seed is its place in the run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from dokja.engine.answers import encode_prompt, grade_answer, read_answer
from dokja.engine.api import Completion, Request
from dokja.tasks.problem import Problem
from dokja.text.chat import END, THINK_END, Mode
from dokja.text.images import ImageConfig
from dokja.text.tokenizer import Tokenizer
from dokja.train.rollouts.record import Rollout
from dokja.train.rollouts.rewards import violations, wrong_language


class Engine(Protocol):
    """The part of the engine that sampling uses."""

    def complete(self, requests: Any) -> list[Completion]:
        """All answers, in the order of the requests."""
        ...


def answer_seed(seed: int, step: int, group: int, sample: int) -> int:
    """63 bits out of an answer's place: the same place is answered with the same randomness after any restart."""
    text = f"{seed}/{step}/{group}/{sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def sample(
    engine: Engine,
    tokenizer: Tokenizer,
    asked: Sequence[tuple[Problem, Mode]],
    answers: int,
    c: Any,
    *,
    seed: int,
    step: int = 0,
    first: int = 0,
    temperature: float | None = None,
    top_p: float = 1.0,
    images: ImageConfig | None = None,
) -> list[list[Rollout]]:
    """`answers` graded answers to every (problem, mode), grouped by prompt; groups are numbered from `first`.

    c has temperature (unless given), max_tokens and budget (tokens of a thought before it is closed by force). Answers
    to learn from keep top_p = 1: with any other the policy would not be what it is trained as. `images` is the image
    config of a vision model.
    """
    end, close = tokenizer.special_id(END), tokenizer.special_id(THINK_END)
    requests = []
    for number, (problem, mode) in enumerate(asked, first):
        thinking = mode == "think"
        prompt, shown = encode_prompt(problem.messages, tokenizer, images, thinking)
        requests += [
            Request(
                id=f"{number}/{n}",
                prompt=prompt,
                max_tokens=c.max_tokens,
                temperature=c.temperature if temperature is None else temperature,
                top_p=top_p,
                seed=answer_seed(seed, step, number, n),
                stop=(end,),
                think_budget=c.budget if thinking else None,
                think_close=(close,) if thinking else (),
                images=shown,
            )
            for n in range(answers)
        ]
    done = engine.complete(requests)
    rollouts = [
        _rollout(asked[at // answers], request, completion, tokenizer, step, first + at // answers, at % answers)
        for at, (request, completion) in enumerate(zip(requests, done, strict=True))
    ]
    return [rollouts[at : at + answers] for at in range(0, len(rollouts), answers)]


def _rollout(
    asked: tuple[Problem, Mode],
    request: Request,
    completion: Completion,
    tokenizer: Tokenizer,
    step: int,
    group: int,
    sample: int,
) -> Rollout:
    problem, mode = asked
    answer = read_answer(completion, tokenizer, mode)
    grade = grade_answer(problem, answer.content, truncated=completion.finish != "stop")
    return Rollout(
        step=step,
        group=group,
        sample=sample,
        task=problem.task,
        problem_id=problem.id,
        level=problem.level,
        language=problem.language,
        mode=mode,
        prompt=problem.prompt,
        reference=problem.reference,
        prompt_tokens=request.prompt,
        tokens=completion.tokens,
        logprobs=completion.logprobs,
        finish=completion.finish,
        forced=completion.forced,
        forced_at=request.think_budget if completion.forced and request.think_budget is not None else -1,
        reasoning=answer.reasoning,
        answer=answer.content,
        reasoning_tokens=answer.reasoning_tokens,
        wrong_mode=answer.wrong_mode,
        score=grade.score,
        reason=grade.reason,
        detail=grade.detail,
    )


def statistics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What a round of answers was like: mean reward and accuracy (by mode and language), lengths in tokens, entropy
    (mean -log p of the sampled tokens, an unbiased estimate at temperature 1), and shares of what a hack would show.
    """
    out = {"reward": _mean(r.reward for r in rollouts), "accuracy": _mean(r.score for r in rollouts)}
    for mode in ("think", "direct"):
        out[f"accuracy_{mode}"] = _mean(r.score for r in rollouts if r.mode == mode)
    for language in ("ko", "en"):
        out[f"accuracy_{language}"] = _mean(r.score for r in rollouts if r.language == language)
    thinking = [r for r in rollouts if r.mode == "think"]
    out["thought_tokens"] = _mean(r.reasoning_tokens for r in thinking)
    out["answer_tokens"] = _mean(len(r.tokens) - r.reasoning_tokens for r in rollouts)
    chosen = [x for r in rollouts for t, x in enumerate(r.logprobs) if t != r.forced_at]
    out["entropy"] = -_mean(chosen)
    broken = [set(violations(r)) for r in rollouts]
    for name in ("forced", "empty_thought", "wrong_mode", "marker", "overfull", "cut_off"):
        out[name] = _mean(name in found for found in broken)
    foreign = (wrong_language(f"{r.reasoning}\n{r.answer}", r.prompt, r.language, r.reference) for r in rollouts)
    out["wrong_language"] = _mean(foreign)
    out["repetition"] = _mean(repeats(r.tokens) for r in rollouts)
    return {name: value for name, value in out.items() if value == value}


def repeats(tokens: Sequence[int], times: int = 4, longest: int = 16) -> bool:
    """Whether an answer ends in a loop: one block of up to `longest` tokens, at least 12 in all, `times` in a row."""
    for period in range(1, longest + 1):
        span = max(period * times, 12)
        if len(tokens) > span and all(tokens[-1 - i] == tokens[-1 - i - period] for i in range(1, span - period + 1)):
            return True
    return False


def _mean(values: Iterable[float]) -> float:
    listed = [float(v) for v in values]
    return sum(listed) / len(listed) if listed else float("nan")
