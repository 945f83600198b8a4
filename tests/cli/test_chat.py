"""The chat as a person or a pipe meets it."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dokja.cli.strings import STRINGS, pick_language

HERE = Path(__file__).parent
ENV = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src"), "PYTHONIOENCODING": "utf-8", "LANG": "C.UTF-8"}


def through_a_pipe(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(HERE / "scripted.py"), "0", *arguments]
    return subprocess.run(argv, input=text, env=ENV, capture_output=True, text=True, timeout=60)


def test_a_pipe_gets_answers_only_and_remarks_go_to_stderr() -> None:
    done = through_a_pipe("3 + 4?\n\n/no_think\n/nonsense\nhi\n/quit\nnot asked\n")
    assert done.stdout.splitlines()[0] == "seven [b]7[/b] 독자"
    assert len(done.stdout.splitlines()) == 2
    assert "at once" in done.stderr and "no command /nonsense" in done.stderr


def test_a_pipe_gets_the_thoughts_when_asked() -> None:
    assert through_a_pipe("hi\n", "thoughts").stdout.startswith("<think>three plus four\nis seven</think>\nseven")


class Terminal:
    """A chat under a pseudo-terminal."""

    def __init__(self, delay: str, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        argv = [sys.executable, str(HERE / "scripted.py"), delay, *arguments]
        env = {**ENV, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(
            argv, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_own_terminal
        )
        os.close(slave)
        self.seen = b""

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 30.0) -> str:
        """Everything up to `text`; fails when it does not come."""
        end, mark = time.monotonic() + seconds, text.encode()
        while mark not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not come; seen: {self.seen.decode(errors='replace')!r}"
            self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(mark)
        return before.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C typed into it reaches the chat


def test_a_terminal_shows_the_thought_and_folds_it() -> None:
    terminal = Terminal("0.02")
    try:
        terminal.expect("you> ")
        terminal.send("3 + 4?\n")
        thinking = terminal.expect("[thought ")
        assert "three plus" in thinking
        folded = terminal.expect("you> ")
        assert re.match(r"\d+ tokens, \d\.\d s\]", folded)
        assert "seven [b]7[/b] 독자" in folded
        terminal.send("/quit\n")
        terminal.expect("Bye.")
        assert terminal.process.wait(timeout=10) == 0
    finally:
        terminal.close()


def test_ctrl_c_stops_the_answer_and_not_the_chat() -> None:
    terminal = Terminal("0.1", "ko")
    try:
        terminal.expect("나> ")
        terminal.send("3 + 4?\n")
        terminal.expect("three")
        terminal.send("\x03")
        terminal.expect("[멈춤]")
        terminal.expect("나> ")
        terminal.send("안녕\n")
        terminal.expect("안녕하세요")
        terminal.expect("나> ")
        terminal.send("\x04")
        terminal.expect("안녕히 가세요.")
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("asked", "locale", "picked"),
    [(None, "ko_KR.UTF-8", "ko"), (None, "C.UTF-8", "en"), ("ko", "en_US.UTF-8", "ko"), ("fr", "ko_KR.UTF-8", "ko")],
)
def test_language_follows_the_option_then_the_locale(
    asked: str | None, locale: str, picked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", locale)
    assert pick_language(asked) == picked


def test_both_languages_say_everything_with_the_same_blanks() -> None:
    for key, sentence in STRINGS.items():
        blanks = [sorted(re.findall(r"\{(\w+)", sentence[language])) for language in ("ko", "en")]
        assert blanks[0] == blanks[1], key
        assert re.search("[가-힣]", sentence["ko"]) and not re.search("[가-힣]", sentence["en"])
