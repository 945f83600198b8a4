"""Progress without a terminal: plain lines, and always a log."""

import io
from pathlib import Path

import pytest

from dokja.ledger.progress import Progress, clock


class Clock:
    now = 100.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "now", 100.0)
    monkeypatch.setattr("dokja.ledger.progress.time.monotonic", lambda: Clock.now)
    return Clock


def test_plain_lines_come_at_intervals_and_at_the_end(time: type[Clock], tmp_path: Path) -> None:
    out = io.StringIO()
    with Progress(100, "pretrain", tmp_path / "log.txt", every=5.0, stream=out) as progress:
        for step in range(1, 101):
            time.now += 0.125
            progress.update(step, f"loss {1 / step:.2f}")
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "pretrain 40/100 8.0/s, 0:08 left loss 0.03"
    assert lines[-1] == "pretrain 100/100 8.0/s, 0:12 in all loss 0.01"
    logged = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in logged] == lines


def test_a_resumed_stage_counts_only_its_own_steps_in_the_rate(time: type[Clock]) -> None:
    with Progress(100, "sft", start=90, stream=io.StringIO()) as progress:
        time.now += 2.0
        progress.update(92)
        assert progress.rate() == "1.0/s, 0:08 left"


def test_slow_steps_are_given_in_seconds_each(time: type[Clock]) -> None:
    with Progress(10, "x", stream=io.StringIO()) as progress:
        assert progress.rate() == ""
        time.now += 8.0
        progress.update(2)
        assert progress.rate() == "4.0 s each, 0:32 left"


def test_the_last_line_is_said_when_the_work_fails(time: type[Clock]) -> None:
    out = io.StringIO()
    with pytest.raises(RuntimeError), Progress(10, "x", stream=out) as progress:
        progress.update(3, "so far")
        raise RuntimeError
    assert "3/10 so far" in out.getvalue()


def test_a_terminal_gets_a_bar_and_the_log_its_lines(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Progress(10, "x", tmp_path / "log.txt", stream=out) as progress:
        progress.update(10, "[done]")
    assert "10/10" in out.getvalue() and "[done]" in out.getvalue()
    assert "x 10/10" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75, "1:15"), (4000, "1:06:40")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
