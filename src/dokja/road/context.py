"""What every stage of the road is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dokja.ledger.progress import Progress
from dokja.ledger.run import Attempt, Run
from dokja.recipe.schema import Recipe


@dataclass(frozen=True)
class Context:
    """The resolved recipe, the run and this attempt's log."""

    recipe: Recipe
    run: Run
    attempt: Attempt
    out: Callable[[str], None] = print

    def say(self, sentence: str) -> None:
        """Tells the person and the log."""
        self.out(sentence)
        self.attempt.log(sentence)

    def progress(self, total: int, label: str, start: int = 0) -> Progress:
        """A bar on a terminal, plain lines elsewhere."""
        return Progress(total, label, self.attempt.log_path, start=start)

    def stage(self, name: str) -> Path:
        """Folder of another stage."""
        return self.run.path / name


@dataclass(frozen=True)
class Walked:
    """What a stage leaves: files and folders (relative to its own), a sentence for the person, and costs."""

    outputs: Sequence[str]
    sentence: str
    cost: dict[str, float] = field(default_factory=dict)
