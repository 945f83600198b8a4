"""What `preference` and `rl` share: which problems they may use, the engine, the judge model, the frozen reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dokja.errors import DataError
from dokja.recipe.schema import JudgeModelConfig, Recipe
from dokja.road.training import Start
from dokja.tasks.problem import Problem
from dokja.tasks.registry import TASKS, get_tasks
from dokja.tasks.splits import LANGUAGES, eval_set, prompt_keys

if TYPE_CHECKING:
    from dokja.train.compiled import Runner

Arm = tuple[str, int]
SLOTS = 256
"""Answers the engine writes at once."""


def arms_of(recipe: Recipe) -> list[Arm]:
    """Every (task, level) of the recipe's task sources. DataError where it has none."""
    found: dict[Arm, None] = {}
    for source in recipe.corpus.sources:
        if source.kind == "tasks":
            for task in get_tasks(source.tasks):
                for level in task.levels:
                    if source.levels is None or level in source.levels:
                        found[task.name, level] = None
    if not found:
        raise DataError("preference and rl need problems with graders: give the recipe a source of kind 'tasks'.")
    return list(found)


def arms_at_once(arms: Sequence[Arm]) -> list[Arm]:
    """The arms to practise at once: families that can be answered so, or all where there are none.

    Elsewhere success at once is luck. Rewarding luck teaches the most frequent answers, and what the model could do at
    once is lost (LOG.md, 2026-11-22).
    """
    return [arm for arm in arms if not TASKS[arm[0]].needs_steps] or list(arms)


def exams(recipe: Recipe, per_cell: int) -> tuple[set[bytes], list[Problem]]:
    """(keys of all prompts that may not be trained on, the problems looked at while training)."""
    judge = recipe.judge
    final = prompt_keys(eval_set(get_tasks(judge.tasks), judge.per_cell, judge.languages, recipe.seed))
    if not per_cell:
        return final, []
    arms = arms_of(recipe)
    tasks = [TASKS[name] for name in dict.fromkeys(task for task, _ in arms)]
    small = [p for p in eval_set(tasks, per_cell, LANGUAGES, recipe.seed + 1, final) if (p.task, p.level) in arms]
    return final | prompt_keys(small), small


def judge_model(config: JudgeModelConfig | None) -> Any:
    """The judge behind an endpoint, where the recipe names one."""
    if config is None:
        return None
    from dokja.train.rollouts.judge_model import JudgeModel

    return JudgeModel(config.url, config.model, config.key_env)


def reference_of(start: Start) -> Runner:
    """The model a stage starts from, frozen, for log pi_ref. The trainer may have gone on: it is read anew."""
    from dokja.model.families import load_model
    from dokja.train.compiled import Runner

    assert start.before is not None
    frozen = load_model(start.before).to(start.device).requires_grad_(False)
    return Runner(frozen, start.dtype, start.config.compile)


def engine_of(start: Start) -> Any:
    """An engine over the model in training: on the CPU it reads the trainer's own weights (with [lora]: a merged
    copy, see `refresh`), elsewhere a bf16 copy."""
    import torch

    from dokja.engine.engine import Engine

    dtype = torch.float32 if start.device.type == "cpu" else torch.bfloat16
    return Engine(start.twin or start.model, slots=SLOTS, dtype=dtype, device=str(start.device))


def refresh(engine: Any, start: Start) -> None:
    """Gives the engine the weights in training, with the pairs of [lora] merged into them."""
    if start.twin is not None:
        from dokja.train.lora import merge_into

        merge_into(start.model, start.twin)
    engine.take_weights(start.twin or start.model)
