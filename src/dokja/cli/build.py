"""`dokja build`: walk the road of a recipe."""

from pathlib import Path
from typing import Annotated

import typer

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; may be given several times."),
]


def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file.")],
    sets: Sets = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
    stage: Annotated[str | None, typer.Option(metavar="NAME", help="Stop after this stage.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build stages again whose recipe, data or code has changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be built, and build nothing.")] = False,
) -> None:
    """Build the model of a recipe: corpus, tokenizer, training, judge, release. Resumes where it was stopped."""
    from dokja import road

    road.build(recipe, sets or [], runs, until=stage, rebuild=rebuild, dry_run=dry_run)
