"""The command line: verbs, errors in one sentence, and what `show` and `doctor` print."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dokja
from dokja.cli import main
from dokja.cli.doctor import doctor, rows
from dokja.cli.model_path import find_model
from dokja.cli.show_run import sparkline
from dokja.errors import ConfigError, DokjaError
from dokja.ledger.chain import append
from dokja.ledger.manifest import Manifest, hash_outputs, write_manifest
from dokja.ledger.metrics import MetricsLog
from dokja.ledger.run import Run

TOP = Path(__file__).parents[2]


def type_in(*arguments: str, cwd: Path = TOP) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(TOP / "src"), "COLUMNS": "120"}
    argv = [sys.executable, "-m", "dokja", *arguments]
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_version() -> None:
    assert type_in("--version").stdout.strip() == f"dokja {dokja.__version__}"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["show", "recipe", "recipes/tiny.toml", "--set", "model.widht=3"], "Did you mean model.width?"),
        (["show", "recipe", "recipes/tinny.toml"], "Did you mean recipes/tiny.toml?"),
        (["show", "run", "nowhere"], "There is no run 'nowhere'"),
        (["show", "recipe"], "name the file as well"),
        (["show", "cake", "x"], "dokja show recipe FILE"),
        (["chat", "nowhere"], "There is no model 'nowhere'"),
        (["judge", "nowhere", "--modes", "loudly"], "name think, direct or both"),
    ],
)
def test_an_error_is_one_sentence_on_stderr_and_status_2(arguments: list[str], part: str) -> None:
    done = type_in(*arguments)
    assert done.returncode == 2
    assert part in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def run_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int | str | None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as done:
        main.run()
    return done.value.code


def test_a_full_disk_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with(monkeypatch, OSError(28, "No space left on device", "runs/tiny/x")) == 2
    said = capsys.readouterr().err
    assert "disk is full (runs/tiny/x)" in said and "resumes" in said


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "app", lambda: [][0])
    with pytest.raises(IndexError):
        main.run()


def test_an_error_is_red_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with(monkeypatch, DokjaError("Mend it."))
    assert capsys.readouterr().err == "Mend it.\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_with(monkeypatch, DokjaError("Mend it."))
    assert capsys.readouterr().err == "\033[31mMend it.\033[0m\n"


@pytest.mark.parametrize("arguments", [["show", "recipe", "recipes/tiny.toml"], ["show", "recipes/tiny.toml"]])
def test_show_recipe_prints_values_formulas_and_origins(arguments: list[str]) -> None:
    done = type_in(*arguments, "--set", "seed=3")
    assert done.returncode == 0, done.stderr
    lines = {parts[0]: parts[1:] for line in done.stdout.splitlines() if (parts := line.split())}
    assert lines["seed"] == ["3", "--set"]
    assert lines["scale"][1:] == ["set", "in", "tiny.toml"]
    assert lines["model.qk_norm"] == ["true", "default"]
    assert "Derived" not in done.stdout and "None" not in done.stdout


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = Run(tmp_path / "runs" / "small")
    run.new_attempt()
    log = MetricsLog(run.stage_dir("pretrain") / "metrics.jsonl")
    for step in range(50):
        log.write(step, loss=5 / (step + 1), seconds=0.1)
    outputs = hash_outputs(run.stage_dir("pretrain"), ["metrics.jsonl"])
    cost = {"seconds": 75.0, "tokens": 1e6, "flops_6nd": 2e15, "flops_attention": 1e15, "peak_memory_bytes": 2e9}
    write_manifest(run.stage_dir("pretrain"), Manifest("pretrain", "k", {}, {}, outputs, cost=cost))
    append(run.path, {"kind": "stage", "stage": "pretrain"})
    MetricsLog(run.stage_dir("sft") / "metrics.jsonl").write(0, loss=1.5)
    return run.path


def test_show_run_prints_stages_costs_and_the_ledger(run: Path) -> None:
    done = type_in("show", "run", "small", cwd=run.parents[1])
    assert done.returncode == 0, done.stderr
    pretrain = next(line.split() for line in done.stdout.splitlines() if line.strip().startswith("pretrain"))
    assert pretrain[:6] == ["pretrain", "done", "1:15", "1,000,000", "3", "2.00"]
    assert "sft" in done.stdout and "under way" in done.stdout
    assert "loss 5.000 █" in done.stdout and "1 entries, chain unbroken" in done.stdout


def test_show_run_tells_of_rl_by_its_reward_and_of_the_stages_by_their_table(run: Path) -> None:
    log = MetricsLog(run / "rl" / "metrics.jsonl")
    for step in range(1, 21):
        rates = {f"rate/think/add/{n}": 0.5 for n in range(50)}
        log.write(step, loss=0.001, reward=step / 20, mismatch_kl=2e-9, **(rates if step % 5 == 0 else {}))
    log.write(21, loss=0.001)  # a later update of the same answers measures no reward
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    rows = [{"mode": "think", "language": None, "score": figure, "thought_tokens": {**figure, "value": 31.0}}]
    table = {"reference": "sft", "stages": [{"stage": name, "rows": rows} for name in ("sft", "rl")]}
    (run / "judge").mkdir()
    (run / "judge" / "stages.json").write_text(json.dumps(table))
    done = type_in("show", str(run))
    assert done.returncode == 0, done.stderr
    assert "rl reward 0.050 ▁" in done.stdout and "rate/" not in done.stdout and "rl loss" not in done.stdout
    assert "reward 1" in " ".join(done.stdout.split()) and "50.0 [40, 60]" in done.stdout and "31.0" in done.stdout
    (run / "judge" / "stages.json").write_text("{")
    assert "stages.json is damaged" in " ".join(type_in("show", str(run)).stdout.split())


def test_show_run_says_when_the_ledger_was_edited(run: Path) -> None:
    path = run / "ledger.jsonl"
    path.write_text(path.read_text().replace("pretrain", "pretrained"))
    assert "line 1 was edited" in type_in("show", str(run)).stdout


def test_a_curve_that_falls_looks_like_it() -> None:
    assert sparkline([8.0, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"
    assert sparkline([1.0, 1.0]) == "▁▁" and len(sparkline(list(range(1000)))) == 40


def test_a_model_is_a_folder_or_the_name_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    assert find_model(str(run)) == find_model("tiny", tmp_path / "runs") == run
    with pytest.raises(ConfigError, match="There is no model 'other'"):
        find_model("other", tmp_path / "runs")


def test_doctor_measures_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor(as_json=True, folder=tmp_path, seconds=0.01)
    found = json.loads(capsys.readouterr().out)
    assert found["cores"] >= 1 and found["memory_bytes"] > 2**28
    assert found["gemm_gflops"]["fp32"] > 0.1 and found["memory_gb_per_second"] > 0.1
    assert found["disk"]["write_mb_per_second"] > 0 and list(tmp_path.iterdir()) == []


def test_doctor_prints_a_row_for_every_finding() -> None:
    found = {
        "cpu": "C", "cores": 2, "threads": 1, "memory_bytes": 2**34, "memory_gb_per_second": 9.5, "python": "3.11",
        "torch": "2.13", "platform": "P", "instructions": [], "gemm_gflops": {"fp32": 100.0, "bf16": 250.0},
        "compiler": None, "disk": {"free_bytes": 2**30, "write_mb_per_second": 5.0}, "sandbox": None,
        "packed_weights": {"folder": "F", "bytes": [2**30, 2**29]},
        "gpus": [{"name": "G", "memory_bytes": 2**37, "bf16_tflops": 700.0}],
    }  # fmt: skip
    said = dict(rows(found))
    assert said["bf16 matrices"] == "250 GFLOP/s (2.50 × fp32)"
    assert said["gpu"] == "G, 128 GiB, bf16 700 TFLOP/s" and "g++" in said["compiler"]
    assert said["packed weights"].startswith("1.5 GiB in F")
    assert dict(rows({**found, "gpus": []}))["gpu"] == "none"
