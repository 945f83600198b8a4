"""`dokja compare`: judged models side by side."""

from pathlib import Path
from typing import Annotated

import typer

from dokja.cli.model_path import find_model
from dokja.cli.strings import pick_language
from dokja.errors import ConfigError


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="A B …", help="Folders with records, or runs and models that were judged.")
    ],
    names: Annotated[str | None, typer.Option(help="What to call them, separated by commas.")] = None,
    facts: Annotated[
        Path | None,
        typer.Option(help="TOML, a table per model: parameters, input_price, output_price (per million tokens)."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the comparison as a page that needs nothing else.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write every figure as JSON.")] = None,
    language: Annotated[str | None, typer.Option(help="Language that the page shows first: ko or en.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
) -> None:
    """Compare judged models on the problems that all of them answered: scores, paired differences, their certainty."""
    if len(models) < 2:
        raise ConfigError("A comparison needs two judged models: dokja compare A B.")
    called = [n.strip() for n in names.split(",")] if names else [None] * len(models)
    if len(called) != len(models):
        raise ConfigError(f"--names has {len(called)} names for {len(models)} models. Give one for each.")
    from dokja.judge.compare import compare_sides, read_side
    from dokja.judge.compare_table import print_comparison, write_json
    from dokja.judge.index import read_inputs

    known = read_inputs(facts) if facts else {}
    sides = [read_side(find_model(m, runs), name, known) for m, name in zip(models, called, strict=True)]
    comparison = compare_sides(sides)
    print_comparison(comparison)
    if as_json:
        print(write_json(comparison, as_json))
    if html:
        from dokja.proof.compare_page import write_comparison

        print(write_comparison(comparison, html, pick_language(language)))
