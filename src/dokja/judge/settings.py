"""What a person wishes, what a benchmark's pack prescribes and what a model's makers recommend, made into items.

| is said by | wins over |
|---|---|
| the person: temperature, top_p, max_tokens, budget, repeats, each for itself | the pack |
| the pack: its sampling of the mode, its repeats | the model's makers |
| the model's makers, for families of our own | greedy |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dokja.engine.recommended import Recommended
from dokja.errors import ConfigError
from dokja.judge.answering import Item
from dokja.judge.records import Sampling
from dokja.judge.suite import Suite
from dokja.tasks.packs.definition import Definition
from dokja.text.chat import MODES, Mode

MAX_TOKENS = 384
"""Of an answer to a family of our own, where nobody says otherwise."""


@dataclass(frozen=True)
class Wishes:
    """What a person asked for; None where they did not."""

    modes: Sequence[Mode] | None = None
    repeats: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    budget: int | None = None


def plan_items(
    suite: Suite, wishes: Wishes, known: Sequence[Mode], advised: Recommended, weights: str = "fp32"
) -> list[Item]:
    """The items of a suite for a model that knows the modes `known`. Raises ConfigError for what cannot be asked."""
    if wishes.modes is not None and (not wishes.modes or set(wishes.modes) - set(MODES)):
        raise ConfigError(f"modes is {list(wishes.modes)}. Use some of {', '.join(MODES)}.")
    if wishes.repeats is not None and wishes.repeats < 1:
        raise ConfigError(f"repeats is {wishes.repeats}. Use 1 for one answer per problem, more for pass@k.")
    packs = {d.name: d for d in suite.definitions}
    rules: dict[tuple[str, Mode], tuple[Sampling, int]] = {}
    for name in dict.fromkeys(_pack(p.task) if packs else "" for p in suite.problems):
        pack = packs.get(name)
        repeats = wishes.repeats or (pack.repeats if pack else 1)
        for mode in _modes(pack, wishes, known):
            rules[name, mode] = sampling_for(pack, mode, wishes, advised, weights), repeats
    return [
        Item(p, mode, repeat, rules[key][0])
        for mode in (wishes.modes or [m for m in MODES if m in known])
        for p in suite.problems
        if (key := (_pack(p.task) if packs else "", mode)) in rules
        for repeat in range(rules[key][1])
    ]


def settings_of(items: Sequence[Item]) -> dict[str, Any]:
    """Modes, repeats and sampling for a summary: plain where all items have the same, else by pack and mode."""
    drawn: dict[tuple[str, str], tuple[Sampling, int]] = {}
    for item in items:
        key = _pack(item.problem.task), item.mode
        drawn[key] = item.sampling, max(item.repeat + 1, drawn.get(key, (None, 0))[1])
    modes = list(dict.fromkeys(item.mode for item in items))
    samplings, repeats = ({d[i] for d in drawn.values()} for i in (0, 1))
    out: dict[str, Any] = {"modes": modes}
    if len(repeats) == 1:
        out["repeats"] = drawn[next(iter(drawn))][1]
    if len(samplings) == 1:
        return out | asdict(drawn[next(iter(drawn))][0])
    return out | {
        "sampling": [
            {"pack": name, "mode": mode, "repeats": n, **asdict(sampling)}
            for (name, mode), (sampling, n) in drawn.items()
        ]
    }


def _pack(task: str) -> str:
    """The pack of a task, by the name that records bear."""
    return task.partition("/")[0]


def _modes(pack: Definition | None, wishes: Wishes, known: Sequence[Mode]) -> Sequence[Mode]:
    if wishes.modes is not None:
        return wishes.modes
    told = [m for m in known if pack is None or m in pack.sampling]
    return told or known


def sampling_for(pack: Definition | None, mode: Mode, wishes: Wishes, advised: Recommended, weights: str) -> Sampling:
    """How answers are drawn, by the table above. Raises ConfigError where nobody says."""
    if wishes.temperature is not None:
        advised = Recommended(temperature=wishes.temperature, top_p=advised.top_p)
    told: Mapping[str, Any] = asdict(advised)
    if pack is not None and pack.sampling:
        if mode in pack.sampling:
            told = dict(pack.sampling[mode])
        elif wishes.max_tokens is None:
            raise ConfigError(
                f"{pack.name} says nothing of answers in the mode {mode}. Give --max-tokens, or ask it in the mode "
                f"{' or '.join(pack.sampling)}."
            )
    wished = {k: getattr(wishes, k) for k in ("temperature", "top_p", "max_tokens", "budget")}
    told = {**Recommended().__dict__, "max_tokens": MAX_TOKENS, "budget": None, "weights": weights, **told}
    values = {**told, **{k: v for k, v in wished.items() if v is not None}}
    if mode != "think":
        values["budget"] = wishes.budget
    return Sampling(**values)
