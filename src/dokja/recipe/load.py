"""Reading a recipe: layers, derivation, checks. Every error is a ConfigError in a sentence."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from dokja.errors import ConfigError
from dokja.recipe.check import check
from dokja.recipe.complaints import refuse_unknown, sentence
from dokja.recipe.derive import Derived, derive
from dokja.recipe.imported import Look, take
from dokja.recipe.layers import read_layers, set_key
from dokja.recipe.schema import Recipe


def load_recipe(path: str | Path, sets: Sequence[str] = ()) -> Recipe:
    """The recipe at `path` with `sets` ("a.b=c") over it, every gap filled. Raises ConfigError."""
    return explain_recipe(path, sets)[0]


def explain_recipe(
    path: str | Path, sets: Sequence[str] = (), look: Look | None = None
) -> tuple[Recipe, list[Derived]]:
    """As `load_recipe`, with one row per key saying where its value comes from. `look` reads the checkpoint of a
    recipe with `init`; `road.start.explain` has one."""
    data, written = read_layers(Path(path), ())
    for text in sets:
        set_key(data, written, text)
    refuse_unknown(data, written)
    taken = take(data, written, look)
    try:
        raw = Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(sentence(error, written)) from None
    sources = {key: place if place == "--set" else f"set in {place}" for key, place in written.items()} | taken
    recipe, rows = derive(raw, sources)
    check(recipe)
    return recipe, rows
