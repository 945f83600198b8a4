"""Pass rules of licence exams: subjects that must not fall below a bar, and a mean that must reach another."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from dokja.errors import ConfigError, DataError


@dataclass(frozen=True)
class Rule:
    """One exam's rule. `ranked` marks exams that also choose by rank, which no score alone decides."""

    name: str
    subject: float
    mean: float
    ranked: bool
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Passed:
    """Whether an exam was passed, its mean, and the subjects below the bar."""

    exam: str
    passed: bool
    mean: float
    failed: tuple[str, ...]
    ranked: bool


@cache
def rules() -> dict[str, Rule]:
    """The rules of `licences.toml`, by exam."""
    raw: dict[str, Any] = tomllib.loads(files("dokja.tasks.packs").joinpath("licences.toml").read_text("utf-8"))
    default = raw["default"]
    return {
        name: Rule(
            name,
            float(given.get("subject", default["subject"])),
            float(given.get("mean", default["mean"])),
            bool(given.get("ranked", False)),
            given.get("weights", {}),
        )
        for name, given in raw["exams"].items()
    }


def examine(exam: str, scores: Mapping[str, float]) -> Passed:
    """Apply an exam's rule to accuracies in percent by subject. DataError for no subject, ConfigError for no rule."""
    if exam not in rules():
        raise ConfigError(f"There is no pass rule for {exam!r}. There are: {', '.join(rules())}.")
    if not scores:
        raise DataError(f"No subject of {exam!r} was scored, so nothing can be said about passing it.")
    rule = rules()[exam]
    weight = {subject: rule.weights.get(subject, 1.0) for subject in scores}
    mean = sum(weight[s] * scores[s] for s in scores) / sum(weight.values())
    failed = tuple(subject for subject, score in scores.items() if score < rule.subject)
    return Passed(exam, not failed and mean >= rule.mean, mean, failed, rule.ranked)


def csat_scores(common: float, electives: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """Points of the common part and of each elective -> the score of each elective's candidate, and their mean.

    The mathematics exam has 22 common items for 74 points and 8 items of one elective for 26; the published score of a
    model is the mean over the three electives. DataError for points beyond those.
    """
    if not electives or not 0 <= common <= 74 or not all(0 <= points <= 26 for points in electives.values()):
        raise DataError(f"A CSAT paper has 74 common points and 26 of an elective, not {common} and {dict(electives)}.")
    scores = {name: common + points for name, points in electives.items()}
    return scores, sum(scores.values()) / len(scores)
