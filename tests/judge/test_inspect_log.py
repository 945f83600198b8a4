"""Records as Inspect's logs: what its own reader and its viewer find in them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from agentic_small import write_pack

from dokja.cli.show_records import show_records
from dokja.errors import ConfigError, DataError
from dokja.judge.agentic.run import Plan, run_agents
from dokja.judge.answering import Origin
from dokja.judge.inspect_log import PINNED, write_logs
from dokja.judge.records import Record, Sampling, Usage
from dokja.tasks.agentic.domain import load_domains
from dokja.tasks.agentic.golden import Golden

SHARED: dict[str, Any] = {
    "task": "sum", "problem_id": "a", "level": 1, "language": "en", "mode": "think", "prompt": "2 + 2?",
    "prompt_sha256": "p", "reference": "4", "detail": "", "forced": False, "wrong_mode": False, "seed": 5,
    "sampling": Sampling(0.6, 0.95, 64, None), "seconds": 2.0, "model": "noise", "model_sha256": "m",
    "template_sha256": "t", "grader_version": "g",
}  # fmt: skip


def answers(folder: Path) -> Path:
    """Two answers of a family: one right after a thought, one cut."""
    right = {"raw": "add</think>4", "reasoning": "add", "answer": "4", "extracted": "4", "finish": "stop"}
    cut = {"raw": "add", "reasoning": "add", "answer": "", "extracted": None, "finish": "length"}
    records = [
        Record(**SHARED, **right, repeat=0, score=1.0, reason="right", usage=Usage(9, 5, 3)),
        Record(**SHARED, **cut, repeat=1, score=0.0, reason="truncated", usage=Usage(9, 64, 64)),
    ]
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(record.to_line() for record in records))
    return folder


def conversations(folder: Path) -> Path:
    """The official actions of a small pack, held as conversations."""

    def cast(scenario: Any) -> Any:
        script = Golden(scenario)
        return script.agent, script.user

    plan = Plan("direct", Sampling(0.0, 1.0, 64, None), 2, 0, 2, "golden")
    domains = load_domains(str(write_pack(folder.parent / "small")))
    asyncio.run(run_agents(domains, cast, folder, plan, Origin("golden", "sha", "", "g")))
    return folder


def test_without_the_library_the_command_that_installs_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(ConfigError, match=r"pip install 'dokja\[inspect\]'"):
        write_logs(answers(tmp_path / "a"), tmp_path / "logs")


def test_the_extra_pins_the_version_that_was_looked_at() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert f'"inspect-ai=={PINNED}"' in project.read_text()


def test_records_can_be_looked_at_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_records(answers(tmp_path / "a"), None)
    assert "50" in capsys.readouterr().out
    show_records(conversations(tmp_path / "c"), None)
    said = capsys.readouterr().out
    assert "pass^2" in said and "small/airline" in said and "played by golden" in " ".join(said.split())
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "records.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no records yet"):
        show_records(tmp_path / "none", None)


def test_a_log_holds_answers_thoughts_scores_reasons_and_usage(tmp_path: Path) -> None:
    reader = pytest.importorskip("inspect_ai.log")
    (path,) = write_logs(answers(tmp_path / "a"), tmp_path / "logs")
    log = reader.read_eval_log(str(path))
    assert (log.status, log.eval.task, log.eval.model) == ("success", "sum (think)", "noise")
    metrics = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    assert (metrics["mean"], metrics["pass_at_2"], metrics["pass_hat_2"], metrics["truncated"]) == (0.5, 1.0, 0.0, 1)
    right, cut = log.samples
    assert (right.epoch, right.scores["dokja"].value, right.scores["dokja"].answer) == (1, 1.0, "4")
    assert right.messages[1].content[0].reasoning == "add" and right.messages[1].text == "4"
    assert right.model_usage["noise"].reasoning_tokens == 3 and right.target == "4"
    assert cut.scores["dokja"].metadata["reason"] == "truncated" and cut.output.choices[0].stop_reason == "max_tokens"
    assert log.stats.model_usage["noise"].output_tokens == 69


def test_conversations_keep_every_call_and_its_answer(tmp_path: Path) -> None:
    reader = pytest.importorskip("inspect_ai.log")
    paths = write_logs(conversations(tmp_path / "c"), tmp_path / "logs", "json")
    logs = {log.eval.dataset.name: log for log in (reader.read_eval_log(str(path)) for path in paths)}
    assert set(logs) == {"small/airline", "small/retail", "small/telecom"}
    sample = logs["small/airline"].samples[0]
    called = [call for m in sample.messages if m.role == "assistant" for call in m.tool_calls or ()]
    told = [m for m in sample.messages if m.role == "tool"]
    assert [call.function for call in called] == ["get_reservation_details", "cancel_reservation"]
    assert [m.tool_call_id for m in told] == [call.id for call in called] and '"cancelled"' in told[1].text
    assert sample.scores["dokja"].metadata["parts"]["DB"] == 1 and "says: 1500" in sample.target
    phone = next(s for s in logs["small/telecom"].samples if s.id == "small/telecom/roam")
    assert any("[calls toggle_data {}]" in m.text for m in phone.messages if m.role == "user")


def test_the_viewer_opens_the_logs(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    logs = tmp_path / "logs"
    (path,) = write_logs(answers(tmp_path / "a"), logs)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    view = subprocess.Popen(
        [sys.executable, "-m", "inspect_ai", "view", "--log-dir", str(logs), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        base, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                page = urllib.request.urlopen(base, timeout=5).read().decode()
                break
            except OSError:
                assert view.poll() is None and time.monotonic() < until
                time.sleep(0.3)
        listed = json.load(urllib.request.urlopen(f"{base}/api/logs", timeout=10))
        name = listed["files"][0]["name"]
        header = json.load(urllib.request.urlopen(f"{base}/api/logs/{name}?header-only=1", timeout=10))
    finally:
        view.terminate()
        view.wait(10)
    assert "Inspect View" in page and name.endswith(path.name)
    assert header["eval"]["model"] == "noise" and header["results"]["scores"][0]["name"] == "dokja"
