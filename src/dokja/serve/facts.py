"""What the server knows of a model without its weights: tokenizer, format, images, context, sampling (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dokja.engine.answers import stop_ids
from dokja.engine.recommended import Recommended
from dokja.model.families.gguf_text import tokenizer_at
from dokja.text.images import ImageConfig
from dokja.text.style import Style
from dokja.text.styles import STYLES
from dokja.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Facts:
    """One model."""

    tokenizer: Tokenizer
    style: Style
    context: int
    sampling: Recommended = field(default_factory=Recommended)
    """How its makers recommend to draw its answers."""
    images: ImageConfig | None = None
    sha256: str = ""
    """Of its weights."""

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Facts:
        """The facts that an engine process told (`worker.load`). Raises DataError where the folder is gone."""
        return cls(
            tokenizer_at(info["path"]),
            STYLES[info["style"]],
            info["context"],
            Recommended(**info.get("sampling") or {}),
            ImageConfig.from_official(info["images"]) if info.get("images") else None,
            info.get("sha256", ""),
        )

    @property
    def stops(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        return stop_ids(self.style, self.tokenizer)
