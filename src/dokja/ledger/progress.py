"""How far a long piece of work is: a bar on a terminal, plain lines elsewhere, and always a log."""

import sys
import time
from pathlib import Path
from typing import Any, TextIO


class Progress:
    """`with Progress(1000, "pretrain") as p: p.update(step, "loss 2.31")`.

    total: steps in all. log_path: file that gets the plain lines too. every: seconds between plain lines.
    start: step to begin from; the rate is of this attempt's steps only.
    """

    def __init__(
        self,
        total: int,
        label: str,
        log_path: Path | None = None,
        every: float = 5.0,
        start: int = 0,
        stream: TextIO | None = None,
    ) -> None:
        self.total, self.label, self.log_path, self.every, self.start = total, label, log_path, every, start
        self.stream = stream or sys.stderr
        self.step, self.text = start, ""
        self._said: int | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        self.began = self._last_line = time.monotonic()
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[rate]}"),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._bar = Bar(*columns, console=Console(file=self.stream))
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.start, rate="", text="")
            self._bar.start()
        return self

    def update(self, step: int, text: str = "") -> None:
        """`step` steps are done; `text` is what to say of the last one."""
        self.step, self.text = step, text
        if self._bar is not None:
            self._bar.update(self._task, completed=step, rate=self.rate(), text=text)
        if time.monotonic() - self._last_line >= self.every:
            self._say()

    def rate(self) -> str:
        """Steps per second and time left, as printed."""
        seconds = time.monotonic() - self.began
        done = self.step - self.start
        if done <= 0 or seconds <= 0:
            return ""
        per_second = done / seconds
        figure = f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"
        left = (self.total - self.step) / per_second
        return f"{figure}, {clock(left)} left" if self.step < self.total else f"{figure}, {clock(seconds)} in all"

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self.step != self._said:
            self._say()

    def _say(self) -> None:
        self._said = self.step
        self._last_line = time.monotonic()
        line = " ".join(part for part in (self.label, f"{self.step:,}/{self.total:,}", self.rate(), self.text) if part)
        if self._bar is None:
            print(line, file=self.stream, flush=True)
        if self.log_path is not None:
            with open(self.log_path, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")


def clock(seconds: float) -> str:
    """75 -> '1:15', 4000 -> '1:06:40'."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
