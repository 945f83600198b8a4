"""Which folder or file a person means by MODEL."""

from pathlib import Path
from typing import Literal

from dokja.errors import ConfigError

Weights = Literal["fp32", "bf16", "int8", "int4"]
"""What a model's weights are kept in while it answers; see `engine.wide`."""


def find_model(text: str, runs: Path = Path("runs"), *, files: bool = False) -> Path:
    """The folder `text`, or runs/`text`; the engine finds the weights in it. Where `files`, a GGUF file as well. Raises
    ConfigError where none is."""
    named = Path(text).expanduser()
    if named.suffix == ".gguf" and named.is_file():
        if files:
            return named
        raise ConfigError(f"{text} is a GGUF file, which dokja chats with, serves and judges. Name a folder here.")
    for place in (named, runs / text):
        if place.is_dir():
            return place
    raise ConfigError(f"There is no model {text!r}: neither a folder of that name nor a run {runs / text}.")
