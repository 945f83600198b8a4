"""Which folder a person means by MODEL."""

from pathlib import Path
from typing import Literal

from dokja.errors import ConfigError

Weights = Literal["fp32", "bf16", "int8", "int4"]
"""What a model's weights are kept in while it answers; see `engine.wide`."""


def find_model(text: str, runs: Path = Path("runs")) -> Path:
    """The folder `text`, or runs/`text`; the engine finds the weights in it. Raises ConfigError where neither is."""
    for place in (Path(text).expanduser(), runs / text):
        if place.is_dir():
            return place
    raise ConfigError(f"There is no model {text!r}: neither a folder of that name nor a run {runs / text}.")
