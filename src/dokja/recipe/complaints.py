"""What is wrong with the merged keys, in a sentence: the key, where it was written, and the nearest right name."""

import difflib
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from dokja.errors import ConfigError
from dokja.recipe.layers import Written, leaves
from dokja.recipe.schema import Recipe


def refuse_unknown(data: dict[str, Any], written: Written) -> None:
    """Before types are looked at: every key must be one the schema has, so that a typo is never taken for a default."""
    known = dict(schema_keys(Recipe))
    tables = {key.rsplit(".", 1)[0] for key in known if "." in key}
    for key, _ in leaves(data):
        parts = key.split(".")
        plain = ".".join(p for p in parts if not p.isdigit())
        if plain in known:
            continue
        place = written.get(key, "--set")
        if plain in tables:
            raise ConfigError(f"{key} in {place} is a section; write its keys under [{key}].")
        # The first part that goes wrong is the one to name: in modle.width that is `modle`.
        names = plain.split(".")
        owner = next((".".join(names[:i]) for i in range(1, len(names)) if ".".join(names[:i]) in known), None)
        if owner is not None and owner not in tables:
            raise ConfigError(f"{key} in {place}: {owner} is a value, so nothing can be set inside it.")
        depth = next(i for i in range(1, len(names) + 1) if ".".join(names[:i]) not in known.keys() | tables)
        raise ConfigError(f"Unknown key {'.'.join(names[:depth])} in {place}.{_nearest(names[:depth], known, tables)}")


def _nearest(names: list[str], known: dict[str, str], tables: set[str]) -> str:
    parent, wrong = ".".join(names[:-1]), names[-1]
    everything = sorted(known.keys() | tables)
    siblings = {k.rsplit(".", 1)[-1]: k for k in everything if k.rpartition(".")[0] == parent}
    near = difflib.get_close_matches(wrong, siblings, 1)
    if near:
        return f" Did you mean {siblings[near[0]]}?"
    deepest_first = sorted(everything, key=lambda k: -k.count("."))  # so that the shallowest of a name stays
    elsewhere = {k.rsplit(".", 1)[-1]: k for k in deepest_first}
    near = difflib.get_close_matches(wrong, elsewhere, 1, 0.8)
    if near:
        return f" Did you mean {elsewhere[near[0]]}?"
    return f" {parent or 'A recipe'} has: {', '.join(sorted(siblings))}." if siblings else ""


def schema_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted key of the schema (list positions left out) and its description."""
    for name, field in model.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None:
            yield from schema_keys(inner, f"{prefix}{name}.")
        if inner is None or not _is_table(field.annotation):
            yield f"{prefix}{name}", field.description or ""


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) is None and isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for arg in get_args(annotation) if (found := _section_of(arg))), None)


def _is_table(annotation: Any) -> bool:
    """A section itself, or one that may be left out; not a list of sections."""
    return get_origin(annotation) in (None, Union, types.UnionType)


def sentence(error: ValidationError, written: Written) -> str:
    """Pydantic's first complaint as a sentence with the place it was written in."""
    first = error.errors()[0]
    key = _our_key(first["loc"])
    place = next((f" in {written[k]}" for k in (key, key.rsplit(".", 1)[0]) if k in written), "")
    if first["type"] == "missing":
        section, _, name = key.rpartition(".")
        inside = f"[[{section[:-2]}]]" if section[-1:].isdigit() else f"[{section}]"
        return f"The recipe has no {key}. Add {name} = … " + (f"to {inside}." if section else "at its top.")
    if first["type"] == "value_error":
        return f"{key}{place}: {first['ctx']['error']}."
    # A key that may be of two types is complained of once for each.
    wishes = dict.fromkeys(_wish(e["msg"]) for e in error.errors() if _our_key(e["loc"]) == key)
    return f"{key}{place} is {first['input']!r}, but should be {' or '.join(wishes)}."


def _our_key(location: tuple[int | str, ...]) -> str:
    """Pydantic's location without the union members it adds behind our key."""
    known = dict(schema_keys(Recipe))
    parts = [str(part) for part in location]
    while len(parts) > 1 and ".".join(p for p in parts if not p.isdigit()) not in known:
        parts.pop()
    return ".".join(parts)


def _wish(message: str) -> str:
    plain = {
        "a valid integer": "a whole number",
        "a valid number": "a number",
        "a valid string": "a text",
        "a valid tuple": "a list",
    }
    wish = message.removeprefix("Input should be ")
    return plain.get(wish, wish.replace("a valid boolean", "true or false"))
