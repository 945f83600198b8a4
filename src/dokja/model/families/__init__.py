"""Official checkpoint layouts: a folder of config.json + safetensors to a Decoder and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dokja.errors import CheckpointError

if TYPE_CHECKING:
    from dokja.model.decoder import Decoder


def load_model(folder: Path) -> Decoder:
    """The Decoder behind an official folder. Raises CheckpointError for a layout that is not known."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no config.json: it is not a release or a checkpoint folder.") from None
    except ValueError:
        raise CheckpointError(f"{path} is not JSON: the folder is damaged. Copy it again from its source.") from None
    kind = config.get("model_type")
    if kind == "exaone4":
        from dokja.model.families import exaone4

        return exaone4.load(Path(folder), config)
    raise CheckpointError(f"{path} says model_type {kind!r}; this version of dokja reads 'exaone4'.")
