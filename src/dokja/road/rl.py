"""Stage `rl`: online reinforcement learning, rounds of answers by the weights in training.

rl/rollouts/step_*.jsonl.zst    every answer of every round, with grade, reward and log-probabilities
rl/pool.jsonl.zst               with a pool: how often each of its problems was right before the stage
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dokja.errors import ConfigError, DataError
from dokja.ledger.hashing import sha256_file
from dokja.recipe.algorithms import KL_IN_REWARD
from dokja.recipe.schema import JudgeConfig, RlConfig
from dokja.road.asking import SLOTS, Arm, arms_at_once, arms_of, engine_of, exams, judge_model, reference_of, refresh
from dokja.road.context import Context, Walked
from dokja.road.training import ORDER, Lesson, Start, learn
from dokja.tasks.problem import Problem
from dokja.tasks.registry import TASKS
from dokja.tasks.splits import LANGUAGES, numbered
from dokja.text.chat import MODES, Mode

if TYPE_CHECKING:
    from dokja.train.compiled import Runner
    from dokja.train.rollouts.layout import SampleBatch


def walk(context: Context, folder: Path) -> Walked:
    """Online RL: rounds of answers by the weights in training."""
    return learn(context, folder, "rl", _lesson)


def _lesson(context: Context, folder: Path, start: Start) -> Lesson:
    from dokja.train import distributed
    from dokja.train.loop import micro_rows
    from dokja.train.objectives.sampled import SampledObjective
    from dokja.train.rollouts.source import RolloutSource

    recipe = context.recipe
    c: RlConfig = start.config
    if distributed.world() > 1:
        raise ConfigError("stage rl runs in one process today. Start `dokja build` without torchrun.")
    seed = recipe.seed + ORDER.index("rl")
    exclude, small = exams(recipe, c.eval_per_cell)
    engine, arms = engine_of(start), arms_of(recipe)
    modes = [m for m in MODES if (c.think_share > 0 if m == "think" else c.think_share < 1)]
    usable: dict[Mode, Sequence[Arm]] = {mode: arms if mode == "think" else arms_at_once(arms) for mode in modes}
    draw = _fresh(seed, exclude)
    outputs: tuple[str, ...] = ("rollouts",)
    if c.pool:
        usable, draw = _pool(context, folder, start, engine, usable, exclude, seed)
        outputs += ("pool.jsonl.zst",)
    rows = micro_rows(start.device, c.seq_len)
    reference = reference_of(start) if c.kl_beta > 0 else None
    in_reward = c.algorithm in KL_IN_REWARD and reference is not None
    source = RolloutSource(
        engine,
        start.tokenizer,
        c,
        usable,
        draw,
        LANGUAGES,
        rows=rows,
        seed=seed,
        folder=folder / "rollouts",
        before_round=lambda: refresh(engine, start),
        judge=judge_model(c.judge),
        log_ratio=(lambda batch: log_ratio_S(reference, batch, rows)) if in_reward and reference else None,
    )
    objective = SampledObjective(c.algorithm, c, reference)
    return Lesson(
        c.steps,
        objective,
        source,
        rows,
        {"algorithm": c.algorithm, "start_of_pool": sha256_file(folder / "pool.jsonl.zst") if c.pool else "none"},
        _looked_at(small, engine, start, source, seed, recipe.judge),
        boundary=c.updates,
        frozen=("router",) if c.freeze_router else (),
        outputs=outputs,
    )


def _fresh(seed: int, exclude: set[bytes]) -> Callable[[Mode, Arm, str, int], Problem]:
    """The draw without a pool: a new problem for every number."""

    def draw(mode: Mode, arm: Arm, language: str, number: int) -> Problem:
        return numbered(TASKS[arm[0]], arm[1], language, 2 * number + (mode == "direct"), seed, exclude)

    return draw


def log_ratio_S(reference: Runner, batch: SampleBatch, rows: int) -> np.ndarray:
    """sum_t log pi_old - log pi_ref of every sequence of a batch, fp64."""
    out = np.zeros(batch.sequences, np.float64)
    for at in range(0, len(batch.tokens_BL), rows):
        part = slice(at, at + rows)
        ref_N = reference.logp(batch.tokens_BL[part], batch.docs_BL[part], batch.targets_BL[part]).cpu().numpy()
        sequence_N = batch.sequence_BL[part].reshape(-1)
        here = sequence_N >= 0
        np.add.at(out, sequence_N[here], batch.old_BL[part].reshape(-1)[here].astype(np.float64) - ref_N[here])
    return out


def _looked_at(
    problems: Sequence[Problem], engine: Any, start: Start, source: Any, seed: int, judge: JudgeConfig
) -> Callable[[Runner], dict[str, float]]:
    """A function that asks held-out problems in both modes as the judge will, and tells the curriculum's rates."""
    from dokja.train.rollouts.sampling import sample

    def evaluate(runner: Runner) -> dict[str, float]:
        out: dict[str, float] = dict(source.rates())
        if problems:
            refresh(engine, start)
            asked = [(p, mode) for mode in MODES for p in problems]
            groups = sample(
                engine,
                start.tokenizer,
                asked,
                1,
                start.config,
                seed=seed,
                temperature=judge.temperature,
                top_p=judge.top_p,
            )
            answers = [group[0] for group in groups]
            for mode in MODES:
                out[f"eval_{mode}"] = _mean(r.score for r in answers if r.mode == mode)
            out["eval_thought_tokens"] = _mean(r.reasoning_tokens for r in answers if r.mode == "think")
        return out

    return evaluate


def _pool(
    context: Context,
    folder: Path,
    start: Start,
    engine: Any,
    arms: dict[Mode, Sequence[Arm]],
    exclude: set[bytes],
    seed: int,
) -> tuple[dict[Mode, Sequence[Arm]], Callable[[Mode, Arm, str, int], Problem]]:
    """Problems drawn once; those that the starting weights answer right `prefilter` times of as many are left out
    (EXAONE 4.0: 8 of 8). Returns the arms that are left by mode, and the draw among them."""
    from dokja.train.rollouts.record import read_rollouts, write_rollouts
    from dokja.train.rollouts.sampling import sample

    c, path = start.config, folder / "pool.jsonl.zst"
    answers = max(1, c.prefilter)
    asked: list[tuple[Problem, Mode]] = []
    for mode, mine in arms.items():
        for n in range(c.pool // len(arms)):
            arm, language = mine[n % len(mine)], LANGUAGES[n // len(mine) % 2]
            asked.append((numbered(TASKS[arm[0]], arm[1], language, n, seed + 100, exclude), mode))
    if not path.exists():
        if start.before is None:
            raise ConfigError("rl.pool needs a stage before rl that has learned to answer.")
        rollouts = []
        with context.progress(len(asked), "rl: pool") as bar:
            for first in range(0, len(asked), SLOTS):
                part = asked[first : first + SLOTS]
                groups = sample(engine, start.tokenizer, part, answers, c, seed=seed, step=-1, first=first)
                rollouts += [r for group in groups for r in group]
                bar.update(first + len(part))
        write_rollouts(path, rollouts)
    right = np.zeros(len(asked))
    for r in read_rollouts(path):
        right[r.group] += r.score
    left: dict[tuple[Mode, Arm, str], list[Problem]] = {}
    for (problem, mode), times in zip(asked, right, strict=True):
        if not c.prefilter or times < answers:
            left.setdefault((mode, (problem.task, problem.level), problem.language), []).append(problem)
    usable: dict[Mode, Sequence[Arm]] = {
        mode: [arm for arm in mine if any((mode, arm, language) in left for language in LANGUAGES)]
        for mode, mine in arms.items()
    }
    count = sum(map(len, left.values()))
    context.say(f"rl: {len(asked):,} problems in the pool, {len(asked) - count:,} left out as solved.")
    if not all(usable.values()):
        raise DataError("rl.pool: every problem of a mode is solved already. Raise rl.pool, or set rl.prefilter = 0.")

    def draw(mode: Mode, arm: Arm, language: str, number: int) -> Problem:
        other = next(x for x in LANGUAGES if x != language)
        found = left.get((mode, arm, language)) or left[mode, arm, other]
        return found[number % len(found)]

    return usable, draw


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(sum(listed) / len(listed)) if listed else 0.0
