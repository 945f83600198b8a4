"""The tokenizer of a run and the chat format that goes with it: our own, or those of the checkpoint it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dokja.errors import DataError
from dokja.road.context import Context
from dokja.road.start import checkpoint
from dokja.text.chat import BOS, END, PAD
from dokja.text.style import Style
from dokja.text.styles import DOKJA, style_of
from dokja.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Speech:
    """What turns text and conversations into tokens."""

    tokenizer: Tokenizer
    style: Style
    ids: Mapping[str, int]
    """bos, eos and pad: what documents begin and end with, as config.json names them"""

    @property
    def closes(self) -> bool:
        """Whether a thought can be closed by force: there are thoughts, and one token that ends them."""
        return self.style.thought is not None and self.style.thought[1] in self.tokenizer.specials

    def think_share(self, asked: float) -> float:
        """The share of conversations with a thought, as far as the format knows both modes."""
        if not self.style.supports("direct"):
            return 1.0
        return asked if self.style.supports("think") else 0.0


def speech(context: Context) -> Speech:
    """The speech of a run whose tokenizer is there. DataError for a checkpoint whose chat format is not known, or whose
    config.json names no token that begins or ends a document."""
    init = context.recipe.init
    tokenizer = Tokenizer.load(context.stage("tokenizer"), imported=init is not None)
    if init is None or not tokenizer.foreign:
        ours = {"bos": BOS, "eos": END, "pad": PAD}
        return Speech(tokenizer, DOKJA, {name: tokenizer.special_id(marker) for name, marker in ours.items()})
    from dokja.model.families import read_config

    folder = checkpoint(init)
    return Speech(tokenizer, style_of(folder, tokenizer), foreign_ids(read_config(folder), folder))


def foreign_ids(config: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """bos, eos and pad of a config.json: of several ends the first; without a padding token the end pads."""
    given = {**(config.get("text_config") or {}), **config}
    found: dict[str, int] = {}
    for name, other in (("bos", None), ("eos", None), ("pad", "eos")):
        value = given.get(f"{name}_token_id")
        value = value[0] if isinstance(value, list) and value else value
        if value is None and other is not None:
            value = found[other]
        if not isinstance(value, int):
            raise DataError(f"{folder}/config.json has no {name}_token_id. Copy the folder again from its source.")
        found[name] = value
    return found
