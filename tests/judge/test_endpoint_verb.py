"""`dokja judge URL` and `dokja speed URL` as a person types them: no torch, sentences, tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from endpoint_scripted import fails, says, serving, streams

SRC = Path(__file__).parents[2] / "src"
CODE = """
import sys
from dokja.cli.main import run
try:
    run()
except SystemExit as done:
    code = done.code
heavy = sorted({"torch", "transformers"} & sys.modules.keys())
print("heavy", heavy)
sys.exit(code)
"""


def dokja(*argv, cwd, code=0):
    """What it prints. Neither torch nor transformers may have been loaded."""
    env = {**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy []"
    return done.stdout + done.stderr


def test_an_endpoint_is_judged_without_torch(tmp_path):
    with serving(lambda body, n: says("A")) as served:
        args = ("judge", served.model("demo"), "--tasks", "reverse", "--per-cell", "1", "--concurrency", "3")
        said = dokja(*args, cwd=tmp_path)
        count = len(served.asked)
        again = dokja(*args, cwd=tmp_path)
    assert "pass@1" in said and "read" in said and count == len(served.asked)
    (folder,) = (tmp_path / "judged").iterdir()
    assert folder.name.startswith("demo-") and f"records: judged/{folder.name}" in again
    assert (folder / "summary.json").exists()


def test_a_row_of_a_table_is_judged_and_stops_with_a_sentence(tmp_path):
    with serving(lambda body, n: fails(401, "who are you")) as served:
        (tmp_path / "e.toml").write_text(f'[mine]\nbase_url = "{served.url}"\nmodel = "m"\n')
        said = dokja("judge", "mine", "--endpoints", "e.toml", "--tasks", "reverse", cwd=tmp_path, code=2)
    assert "401" in said and "who are you" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["judge", "http://h/v1"], "names no model"),
        (["judge", "http://127.0.0.1:9/v1#m", "--weights", "int8"], "--weights and --draft"),
        (["judge", "http://127.0.0.1:9/v1#m", "--max-cost", "1"], "needs the prices"),
        (["judge", "nowhere", "--stream"], "--stream is about an endpoint"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(tmp_path, argv, sentence):
    said = dokja(*argv, cwd=tmp_path, code=2)
    assert sentence in said and "Traceback" not in said


def test_speed_is_measured_and_written(tmp_path):
    deltas = [{"content": "one "}] * 4
    with serving(lambda body, n: streams(*deltas, gap=0.01)) as served:
        said = dokja("speed", served.model(), "--requests", "2", "--json", "speed.json", cwd=tmp_path)
        assert len(served.asked) == 2 and len({b["messages"][0]["content"] for b in served.asked}) == 2
    assert "first token" in said and "tokens/s" in said
    found = json.loads((tmp_path / "speed.json").read_text())
    (row,) = found["workloads"]
    assert row["name"] == "default" and row["n"] == 2 and 0 < row["first_token"] < row["end_to_end"]
