"""What the families with images share: no steps are needed to answer, and every problem holds an image."""

from __future__ import annotations

from collections.abc import Iterable

from dokja.tasks.families.base import STEP, Family


class Sight(Family):
    """A family whose drafts carry images."""

    needs_images = True
    needs_steps = False
    levels: tuple[int, ...] = (1, 2, 3)


def seen(parts: Iterable[object], answer: str) -> str:
    """A trace: what is seen, numbered, then the answer: `①red②blue>red`."""
    return "".join(f"{STEP[k]}{part}" for k, part in enumerate(parts, 1)) + f">{answer}"
