"""The graders by name, as `pack.json` calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dokja.errors import ConfigError
from dokja.tasks.graders.base import Grader
from dokja.tasks.graders.choice import Choice, Labels
from dokja.tasks.graders.code import Code
from dokja.tasks.graders.instructions.follow import Follow
from dokja.tasks.graders.judged import Judged
from dokja.tasks.graders.maths import Maths
from dokja.tasks.graders.safety import Safety
from dokja.tasks.graders.text import Contains, Exact
from dokja.tasks.graders.tools import Tools
from dokja.tasks.problem import Grade


@dataclass(frozen=True)
class Either:
    """References of two forms in one set: those with options are choices, the others mathematics."""

    labels: Labels = "letters"

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """As `Choice` or `Maths`."""
        if isinstance(reference, dict):
            return Choice(self.labels).compare(reference, answer)
        return Maths().compare(reference, answer)


GRADERS: dict[str, Callable[..., Grader]] = {
    "choice": Choice,
    "maths": Maths,
    "code": Code,
    "follow": Follow,
    "contains": Contains,
    "exact": Exact,
    "tools": Tools,
    "safety": Safety,
    "judged": Judged,
    "either": Either,
}


def make_grader(name: str, options: dict[str, Any]) -> Grader:
    """The grader of this name. ConfigError for a name or an option it does not know."""
    if name not in GRADERS:
        raise ConfigError(f"There is no grader {name!r}. There are: {', '.join(GRADERS)}.")
    try:
        return GRADERS[name](**options)
    except TypeError as error:
        raise ConfigError(f"The grader {name!r} does not take {options} ({error}).") from error
