"""Stage `preference`: the model's own answers, compared and learned from.

preference/rollouts.jsonl.zst   every answer sampled before the stage, with grade and reward
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dokja.errors import DataError
from dokja.ledger.hashing import sha256_file
from dokja.recipe.schema import PreferenceConfig
from dokja.road.asking import SLOTS, Arm, arms_at_once, arms_of, engine_of, exams, judge_model, reference_of
from dokja.road.context import Context, Walked
from dokja.road.training import ORDER, Lesson, Start, learn
from dokja.tasks.problem import Problem
from dokja.tasks.registry import TASKS
from dokja.tasks.splits import LANGUAGES, numbered
from dokja.text.chat import Mode

if TYPE_CHECKING:
    from dokja.train.rollouts.record import Rollout


def walk(context: Context, folder: Path) -> Walked:
    """Answers of the model before this stage, compared and learned from."""
    return learn(context, folder, "preference", _lesson)


def _lesson(context: Context, folder: Path, start: Start) -> Lesson:
    from dokja.train.loop import micro_rows
    from dokja.train.objectives.preference import NEEDS_REFERENCE
    from dokja.train.objectives.sampled import SampledObjective
    from dokja.train.rollouts.pairs import PairSource, units

    c: PreferenceConfig = start.config
    stored = folder / "rollouts.jsonl.zst"
    groups = _answers(context, start, stored)
    comparisons = units(groups, _final_labels(groups, c), c, context.recipe.seed)
    if not comparisons:
        raise DataError(
            "stage preference found no prompt with a better and a worse answer: the model is right always or never. "
            "Raise preference.prompts or preference.samples, or train SFT for longer."
        )
    rows = micro_rows(start.device, c.seq_len)
    flat = [r for group in groups for r in group]
    source = PairSource(flat, comparisons, c.objective, c, rows)
    counts = {stage: sum(u.stage == stage for u in comparisons) for stage in ("right", "answer")}
    context.say(
        f"{len(flat):,} answers gave {counts['right']:,} comparisons by rightness and length, "
        f"{counts['answer']:,} by the final answer."
    )
    reference = reference_of(start) if c.objective in NEEDS_REFERENCE else None
    objective = SampledObjective(c.objective, c, reference)
    identity = {"data": sha256_file(stored)}
    return Lesson(source.steps, objective, source, rows, identity, outputs=("rollouts.jsonl.zst",))


def _answers(context: Context, start: Start, stored: Path) -> list[list[Rollout]]:
    """The stored answers, sampled now where they are not there yet."""
    from dokja.train.rollouts.record import read_rollouts, write_rollouts
    from dokja.train.rollouts.rewards import reward_group
    from dokja.train.rollouts.sampling import sample

    recipe, c = context.recipe, start.config
    seed = recipe.seed + ORDER.index("preference")
    if not stored.exists():
        arms, (exclude, _) = arms_of(recipe), exams(recipe, 0)
        thinking = round(c.think_share * c.prompts)
        asked: list[tuple[Problem, Mode]] = []
        modes: tuple[tuple[Mode, int, list[Arm]], ...] = (
            ("think", thinking, arms),
            ("direct", c.prompts - thinking, arms_at_once(arms)),
        )
        for mode, count, mine in modes:
            for n in range(count):
                (task, level), language = mine[n % len(mine)], LANGUAGES[n // len(mine) % 2]
                number = 2 * n + (mode == "direct")
                asked.append((numbered(TASKS[task], level, language, number, seed, exclude), mode))
        engine, judge, groups = engine_of(start), judge_model(c.judge), []
        with context.progress(c.prompts, "preference: answers") as bar:
            for first in range(0, c.prompts, SLOTS):
                part = asked[first : first + SLOTS]
                groups += sample(engine, start.tokenizer, part, c.samples, c, seed=seed, first=first)
                bar.update(len(groups))
        for group in groups:
            reward_group(group, c, judge)
        write_rollouts(stored, (r for group in groups for r in group))
    flat = list(read_rollouts(stored))
    return [flat[at : at + c.samples] for at in range(0, len(flat), c.samples)]


def _final_labels(groups: Sequence[Sequence[Rollout]], c: PreferenceConfig) -> list[float]:
    """Preference (a judge model's, else the task's grade) and language consistency of final answers only."""
    from dokja.train.rollouts.rewards import wrong_language

    return [
        r.parts.get("judge", r.score) - c.language * wrong_language(r.answer, r.prompt, r.language, r.reference)
        for group in groups
        for r in group
    ]
