"""A recipe that starts from a checkpoint (`init`): what the checkpoint fixes is written into the recipe's gaps.

Reading a checkpoint is another room's work (`road.start`); this one only asks for it, so that recipes need no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dokja.errors import ConfigError
from dokja.recipe.layers import Written

ORIGIN = "the checkpoint's"


@dataclass(frozen=True)
class Imported:
    """What a checkpoint says of the recipe that starts from it."""

    model: Mapping[str, Any]
    """[model], every key that is not left out."""
    vocab: int
    dtype: str
    """of its matrices, float32 or bfloat16"""
    licence: str
    prefix: str
    """how the name of a derivative must begin"""


Look = Callable[[str, Mapping[str, Any]], Imported]
"""(path, the [model] section as written) -> what lies there. Raises a DokjaError for a path without a model, and a
ConfigError naming the key for a section that contradicts it."""


def take(data: dict[str, Any], written: Written, look: Look | None) -> dict[str, str]:
    """Fills `data` (merged keys) from the checkpoint it names; returns {key: where its value comes from}.

    ConfigError where a key that the checkpoint decides says otherwise.
    """
    path = data.get("init")
    if path is None:
        return {}
    if not isinstance(path, str) or look is None:
        raise ConfigError(f"init names a folder with a model, as in init = 'runs/tiny/release'; {path!r} is none.")
    model = data.get("model", {})
    found = look(path, model if isinstance(model, dict) else {})
    own_context = {"context": model["context"]} if "context" in model else {}
    data["model"] = {**found.model, **own_context}
    sources = {f"model.{key}": ORIGIN for key in found.model if key not in own_context}
    tokenizer = data.setdefault("tokenizer", {})
    if tokenizer.setdefault("vocab", found.vocab) != found.vocab:
        raise ConfigError(
            f"tokenizer.vocab is {tokenizer['vocab']}, and the checkpoint's vocabulary has {found.vocab} entries. "
            "Leave tokenizer.vocab out: the tokenizer comes with the checkpoint."
        )
    release, name = data.setdefault("release", {}), str(data.get("name", ""))
    gaps = {
        "scale": (data, found.model["layers"]),
        "release.licence": (release, found.licence),
        "release.dtype": (release, found.dtype),
        **({"release.name": (release, f"{found.prefix}-{name}")} if not name.startswith(found.prefix) else {}),
    }
    for key, (table, value) in gaps.items():
        leaf = key.rpartition(".")[2]
        if leaf not in table:
            table[leaf] = value
            sources[key] = ORIGIN
    if "tokenizer.vocab" not in written:
        sources["tokenizer.vocab"] = ORIGIN
    return sources
