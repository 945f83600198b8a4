"""How the makers of a model recommend to sample from it: the generation_config.json that lies with its weights, or the
keys `general.sampling.*` of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dokja.errors import DataError


@dataclass(frozen=True)
class Recommended:
    """Settings for a request, under its names; greedy where nothing is recommended."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0


def read_recommended(folder: Path) -> Recommended:
    """The recommendation in `folder`. `do_sample: false` means greedy, as in transformers; a temperature without
    `do_sample` is meant. Raises DataError where the file is damaged."""
    path = folder / "generation_config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        sampled = raw.get("do_sample", "temperature" in raw)
        return Recommended(
            temperature=float(raw.get("temperature") or 1.0) if sampled else 0.0,
            top_p=float(raw.get("top_p") or 1.0),
            top_k=int(raw.get("top_k") or 0),
            min_p=float(raw.get("min_p") or 0.0),
            presence_penalty=float(raw.get("presence_penalty") or 0.0),
            frequency_penalty=float(raw.get("frequency_penalty") or 0.0),
            repetition_penalty=float(raw.get("repetition_penalty") or 1.0),
        )
    except FileNotFoundError:
        return Recommended()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}). Restore the model's folder.") from error


_GGUF = "general.sampling."
_NAMES = {"temp": "temperature", "penalty_repeat": "repetition_penalty"}
_READ = {"temp": float, "top_p": float, "top_k": int, "min_p": float, "penalty_repeat": float}


def recommended_in(metadata: Mapping[str, Any]) -> Recommended | None:
    """The recommendation in a GGUF file's metadata; None where there is none. Without a temperature it is greedy; what
    no request can ask for (mirostat, xtc, orders of samplers) is left out."""
    given = {key: read(metadata[_GGUF + key]) for key, read in _READ.items() if _GGUF + key in metadata}
    return Recommended(**{_NAMES.get(key, key): value for key, value in given.items()}) if given else None
