"""`dokja show`: every value of a recipe with its formula, how a run stands, published scores, indexes. Reads only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dokja.cli.build import Sets
from dokja.cli.strings import pick_language
from dokja.errors import ConfigError
from dokja.recipe.imported import Imported

KINDS = ("recipe", "run", "scores", "index", "records")


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[recipe|run|scores|index|records] [PATH]", help="A recipe file, a run folder or a name."
        ),
    ],
    path: Annotated[str | None, typer.Argument(hidden=True)] = None,
    sets: Sets = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
    html: Annotated[Path | None, typer.Option(help="scores: write a page instead.")] = None,
    of: Annotated[Path | None, typer.Option(help="index: a TOML file with a table of values per model.")] = None,
    language: Annotated[str | None, typer.Option(help="scores: ko or en; by default the terminal's.")] = None,
    inspect: Annotated[Path | None, typer.Option(help="records: a folder for logs that `inspect view` opens.")] = None,
) -> None:
    """Show a recipe (`dokja show recipe FILE`: every value and its formula), a run (`dokja show run RUN`), published
    scores (`dokja show scores [TEXT]`), an index (`dokja show index [NAME] [--of FILE]`) or the records of a judged
    folder (`dokja show records FOLDER`)."""
    kind, target = (what, path) if path is not None or what in ("scores", "index") else (None, what)
    if kind not in (None, *KINDS):
        raise ConfigError(f"dokja show {kind} …: say `dokja show recipe FILE` or `dokja show run RUN`.")
    if kind is None and target in KINDS:
        raise ConfigError(f"dokja show {target}: name the {'file' if target == 'recipe' else 'folder'} as well.")
    if kind == "scores":
        from dokja.cli.show_scores import show_scores

        return show_scores(target, html, pick_language(language))
    if kind == "index":
        from dokja.cli.show_scores import show_index

        return show_index(target, of)
    assert target is not None
    if kind == "records":
        from dokja.cli.show_records import show_records

        return show_records(Path(target), inspect)
    if kind == "recipe" or (kind is None and target.endswith(".toml")):
        show_recipe(Path(target), sets or [])
    else:
        from dokja.cli.show_run import show_run

        folder = next((p for p in (Path(target), runs / target) if p.is_dir()), None)
        if folder is None:
            raise ConfigError(f"There is no run {target!r}: neither a folder of that name nor {runs / target}.")
        show_run(folder)


def show_recipe(path: Path, sets: list[str]) -> None:
    """Print key, value and origin of every key of a recipe, section by section."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from dokja.recipe.load import explain_recipe

    def look(init: str, written: Mapping[str, Any]) -> Imported:
        from dokja.road.start import look  # needs torch, which a recipe without `init` does not

        return look(init, written)

    recipe, rows = explain_recipe(path, sets, look)
    table = Table(title=f"{path} · {recipe.name}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("key", no_wrap=True)
    table.add_column("value", justify="right", overflow="fold")
    table.add_column("from", overflow="fold")
    section = ""
    for row in rows:
        here = row.key.rpartition(".")[0]
        if here != section:
            table.add_section()
            section = here
        style = "dim" if row.source == "default" else "cyan" if row.formula else "bold"
        table.add_row(row.key, spell(row.value), row.formula or row.source, style=style)
    Console().print(table)


def spell(value: object) -> str:
    """A value as a recipe would have it: counts in groups of three, lists with commas."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
