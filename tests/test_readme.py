"""Every command of the READMEs runs, in a form that finishes: `make -n`, `--dry-run` or `--help`."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
FINISHING = {
    "build": ["--dry-run"], "chat": ["--help"], "judge": ["--help"], "doctor": ["--help"], "export": ["--help"],
    "compare": ["--help"], "serve": ["--help"], "keys": ["--help"],
}  # fmt: skip


def commands(readme: str) -> list[str]:
    """The lines of the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", (TOP / readme).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_both_readmes_name_the_same_commands() -> None:
    assert commands("README.md") == commands("README.ko.md")
    assert {"make demo", "make test"} <= set(commands("README.md"))


def test_both_readmes_fit_one_screen_of_prose() -> None:
    for readme in ("README.md", "README.ko.md"):
        assert len((TOP / readme).read_text(encoding="utf-8").splitlines()) <= 76


def checkpoint(folder: Path) -> None:
    """A model that somebody has: random weights, a tokenizer of its own."""
    from dokja.model.decoder import Decoder
    from dokja.model.families import export
    from dokja.model.spec import ModelSpec
    from dokja.text.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["나는 글이다. I am a text."] * 4, 300)
    spec = ModelSpec(tokenizer.vocab_size, 32, 2, 2, 1, 16, 32, 1024, window=16)
    export(spec, dict(Decoder(spec).init_weights(0).named_parameters()), folder, {"bos": 1, "eos": 2, "pad": 0})
    tokenizer.save(folder)


@pytest.mark.parametrize("command", commands("README.md"))
def test_readme_command_runs(command: str, tmp_path: Path) -> None:
    for name in ("recipes", "Makefile", "pyproject.toml"):
        (tmp_path / name).symlink_to(TOP / name)
    text = tmp_path / "my" / "folder"
    text.mkdir(parents=True)
    if "my/checkpoint" in command:
        checkpoint(tmp_path / "my" / "checkpoint")
    (text / "mine.txt").write_text("나는 글이다. I am a text.\n" * 50, encoding="utf-8")

    program, *arguments = shlex.split(command)
    if program == "make":
        argv = ["make", "-n", *arguments]
    else:
        assert program == ".venv/bin/dokja"
        verb = arguments[0]
        more = FINISHING.get(verb, ["--help"] if arguments[:2] == ["show", "run"] else [])
        argv = [sys.executable, "-m", "dokja", *arguments, *more]
    env = {**os.environ, "PYTHONPATH": str(TOP / "src")}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout
