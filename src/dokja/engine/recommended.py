"""How the makers of a model recommend to sample from it: the generation_config.json that lies with its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dokja.errors import DataError

_ELSEWHERE = {"presence_penalty": 0.0, "repetition_penalty": 1.0, "min_p": 0.0}
"""Settings that the engine does not have, and the values with which they do nothing."""


@dataclass(frozen=True)
class Recommended:
    """Settings for a request; greedy where nothing is recommended."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    ignored: tuple[str, ...] = ()
    """Recommended settings which the engine lacks."""


def read_recommended(folder: Path) -> Recommended:
    """The recommendation in `folder`. `do_sample: false` means greedy, as in transformers; a temperature without
    `do_sample` is meant. Raises DataError where the file is damaged."""
    path = folder / "generation_config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        ignored = tuple(name for name, off in _ELSEWHERE.items() if raw.get(name, off) not in (off, None))
        sampled = raw.get("do_sample", "temperature" in raw)
        temperature = float(raw.get("temperature") or 1.0) if sampled else 0.0
        return Recommended(temperature, float(raw.get("top_p") or 1.0), int(raw.get("top_k") or 0), ignored)
    except FileNotFoundError:
        return Recommended()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}). Restore the model's folder.") from error
