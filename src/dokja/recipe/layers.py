"""A recipe's layers: `base` files below, the file over them, `--set` on top; and where each key was written."""

import difflib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError

Written = dict[str, str]
"""Dotted key -> where it was written: a file name, or `--set`."""


def read_layers(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], Written]:
    """The file merged over its `base`, and for each leaf the file that wrote it."""
    if path.resolve() in above:
        raise ConfigError(f"{path} is its own base, by way of {above[-1].name}. Remove one of the `base` keys.")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(_no_such_file(path, above)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    base = data.pop("base", None)
    _anchor_paths(data, path.parent)
    mine = {key: path.name for key, _ in leaves(data)}
    if base is None:
        return data, mine
    if not isinstance(base, str):
        raise ConfigError(f'{path}: `base` names another recipe, as in base = "tiny.toml"; {base!r} is not a name.')
    lower, theirs = read_layers(path.parent / base, (*above, path.resolve()))
    # A list is replaced whole, so what the base wrote inside a replaced list is no longer written anywhere.
    merged = _merge(lower, data)
    alive = {key for key, _ in leaves(merged)}
    return merged, {key: place for key, place in {**theirs, **mine}.items() if key in alive}


def _no_such_file(path: Path, above: tuple[Path, ...]) -> str:
    beside = sorted(p.name for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, 1)
    asked = f" (the base of {above[-1].name})" if above else ""
    if near:
        return f"There is no recipe at {path}{asked}. Did you mean {path.parent / near[0]}?"
    return f"There is no recipe at {path}{asked}." + (f" Beside it lie: {', '.join(beside)}." if beside else "")


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """A relative path (of the corpus, of the checkpoint to start from) means: relative to the recipe that wrote it. It
    becomes relative to where we stand."""
    if isinstance(data.get("init"), str):
        data["init"] = _anchored(data["init"], folder)
    corpus = data.get("corpus")
    sources = corpus.get("sources") if isinstance(corpus, dict) else None
    for source in sources if isinstance(sources, list) else []:
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            source["path"] = _anchored(source["path"], folder)


def _anchored(path: str, folder: Path) -> str:
    place = Path(path).expanduser()
    return str(place) if place.is_absolute() else os.path.normpath(folder / place)


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that is not a table; tables inside lists are counted 0, 1, …"""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for i, item in enumerate(value):
            yield from leaves(item, f"{prefix}.{i}")
    else:
        yield prefix, value


def set_key(data: dict[str, Any], written: Written, text: str) -> None:
    """Apply one `a.b=value`. The value is TOML, or else a bare string; `none` takes the key away again."""
    key, equals, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"--set {text}: write it as --set key=value, for instance --set pretrain.tokens=2_000_000.")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    *parents, last = key.split(".")
    table: Any = data
    for depth, name in enumerate(parents):
        table = _step(table, name, ".".join(parents[: depth + 1]))
    if not isinstance(table, dict):
        inside = ".".join(parents)
        raise ConfigError(f"--set {key}: {inside} is a list; name a key of one entry, as in {inside}.0.weight.")
    for old in [k for k in written if k == key or k.startswith(f"{key}.")]:
        del written[old]
    if value == "none":
        table.pop(last, None)
        return
    table[last] = value
    written.update(dict.fromkeys((k for k, _ in leaves(value, key)), "--set"))


def _step(table: Any, name: str, so_far: str) -> Any:
    """The table or list inside `table` under `name`; a missing table is made, a missing list entry is an error."""
    if isinstance(table, list):
        if name.isdigit() and int(name) < len(table):
            return table[int(name)]
        raise ConfigError(f"--set: {so_far} does not exist; the list has {len(table)} entries, counted from 0.")
    if name.isdigit():
        raise ConfigError(f"--set: {so_far} does not exist; the recipe does not list any {so_far.rpartition('.')[0]}.")
    inner = table.setdefault(name, {})
    if not isinstance(inner, (dict, list)):
        raise ConfigError(f"--set: {so_far} is a value ({inner!r}), so nothing can be set inside it.")
    return inner
