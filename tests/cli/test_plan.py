"""`dokja plan` as it is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dokja.cli.plan import choose_device
from dokja.cli.strings_plan import COLUMNS, ROWS, TITLES, WORDS
from dokja.errors import ConfigError

TOP = Path(__file__).parents[2]
SHAPES = "recipes/shapes"


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`dokja plan`, in an interpreter that says at its end whether torch was loaded."""
    code = (
        f"import sys; sys.argv = ['dokja', 'plan', *{arguments!r}]\n"
        "from dokja.cli.main import run\n"
        "try: run()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    env = {**os.environ, "PYTHONPATH": str(TOP / "src"), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], cwd=TOP, env=env, capture_output=True, text=True, timeout=60)


def test_training_is_planned_with_formulas_and_without_torch() -> None:
    done = plan(f"{SHAPES}/4.0-32b.toml", "--mesh", "dp=8,tp=8", "--language", "en")
    assert done.returncode == 0, done.stderr
    for part in ("32,003,216,384", "64 × h100", "4 bytes (fp32 masters)", "days", "dp: FSDP", "tp: all-reduce"):
        assert part in done.stdout


def test_serving_is_planned_in_korean() -> None:
    done = plan(f"{SHAPES}/k-236b-a23b.toml", "--mesh", "tp=8", "--serve", "--device", "b200", "--language", "ko")
    assert done.returncode == 0, done.stderr
    assert "12.02 GiB" in done.stdout and "들어가는 문맥 수" in done.stdout


def test_json_has_the_same_numbers() -> None:
    done = plan("recipes/tiny.toml", "--json", "--seq", "128", "--batch-tokens", "1024")
    told = json.loads(done.stdout)
    assert told["training"]["job"]["seq"] == 128
    assert told["training"]["step"]["tokens"] == 1024
    assert told["params"] > told["active_params"] > 0


def test_what_does_not_fit_is_shown_and_ends_in_a_sentence() -> None:
    done = plan(f"{SHAPES}/4.0-32b.toml", "--mesh", "tp=4", "--language", "en")
    assert done.returncode == 2
    assert "Memory of a device" in done.stdout
    assert "more than the 72.0 GB" in done.stderr and "smallest mesh of this kind that fits" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--mesh", "tp=3"], "tp=3 does not divide"),
        (["--mesh", "dp=4", "--devices", "8"], "Set dp=8"),
        (["--device", "abacus"], "no device 'abacus'"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments: list[str], part: str) -> None:
    done = plan(f"{SHAPES}/4.0-32b.toml", *arguments)
    assert done.returncode == 2 and part in done.stderr and "Traceback" not in done.stderr


def test_numbers_that_are_given_take_the_place_of_the_table() -> None:
    found = choose_device("h100", 100.0, None, 24.0, 10.0, None, 1)
    assert (found.flops, found.memory, found.link, found.network) == (100e12, 24e9, 10e9, 10e9)
    assert found.bandwidth == 3.35e12 and found.mfu == 0.4


def test_several_machines_need_a_link() -> None:
    with pytest.raises(ConfigError, match="--link"):
        choose_device("cpu", None, None, None, None, None, 2)


def test_every_phrase_is_there_in_both_languages() -> None:
    for table in (TITLES, ROWS, WORDS):
        for key, said in table.items():
            assert set(said) == {"en", "ko"}, key
    assert len(COLUMNS["en"]) == len(COLUMNS["ko"])
