"""The `dokja` command: its verbs, and how errors look."""

import errno
import logging
import os
import sys
from typing import Annotated

import typer

import dokja
from dokja.cli.build import build
from dokja.cli.chat import chat
from dokja.cli.compare import compare
from dokja.cli.doctor import doctor
from dokja.cli.export import export
from dokja.cli.judge import judge
from dokja.cli.keys import keys
from dokja.cli.plan import plan
from dokja.cli.serve import serve
from dokja.cli.show import show
from dokja.cli.speed import speed
from dokja.errors import DokjaError

app = typer.Typer(
    name="dokja",
    help="Build a foundation model of your own, from empty weights to a judged, chatting release.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (build, show, plan, judge, speed, compare, chat, serve, keys, export, doctor):
    app.command()(verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dokja {dokja.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


def run() -> None:
    """Run the command line. What a person can mend ends in one sentence and status 2; a traceback is a bug of ours."""
    # torch's OpenMP threads spin for milliseconds while they wait, which costs most of the speed when another process
    # is busy (LOG.md, 2026-11-22); a few microseconds of it lose nothing on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    try:
        app()
    except DokjaError as error:
        _complain(str(error))
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        place = f" ({error.filename})" if error.filename else ""
        _complain(f"The disk is full{place}. Free some space and type the same command again: it resumes.")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(sentence: str) -> None:
    """One sentence on stderr, red on a terminal."""
    print(f"\033[31m{sentence}\033[0m" if sys.stderr.isatty() else sentence, file=sys.stderr)
