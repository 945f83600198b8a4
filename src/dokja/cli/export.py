"""`dokja export`: a release in another form."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dokja.cli.model_path import find_model


class Form(StrEnum):
    """What a release can be made into."""

    gguf = "gguf"


class Kind(StrEnum):
    """How a GGUF file holds matrices."""

    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A release folder, a run folder or a run's name.")],
    to: Annotated[Form, typer.Option(help="gguf: one file for llama.cpp, where it computes the same.")] = Form.gguf,
    kind: Annotated[Kind, typer.Option("--type", help="Of the matrices.")] = Kind.f16,
    out: Annotated[Path | None, typer.Option(help="The file to write; NAME-TYPE.gguf by default.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
) -> None:
    """Write a model as a GGUF file for llama.cpp. Shapes that llama.cpp would compute otherwise are refused."""
    folder = find_model(model, runs)
    # After the name is known to be right: these load torch, which takes seconds.
    from dokja.engine.load import find_folder
    from dokja.proof.gguf import export_gguf

    name = folder.resolve().name
    target = out or Path(f"{name}-{kind.value}.gguf")
    arch = export_gguf(find_folder(folder), target, kind.value, name)
    print(f"{target}: architecture {arch}, {target.stat().st_size / 1e6:,.1f} MB")
