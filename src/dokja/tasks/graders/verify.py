"""math-verify in processes that may be killed. In threads or in this process its time limits silently fail."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dokja.tasks.sandbox import filter as calls

_WORKER = Path(__file__).parent / "verify_worker.py"
_INSIDE = Path(__file__).parent.parent / "sandbox" / "inside.py"


class VerifyFailed(RuntimeError):
    """math-verify is missing, crashed, or did not come to an end; says which."""


class Worker:
    """One process with math-verify: limited in time per question, in memory, and in how many questions it lives."""

    def __init__(self, seconds: float = 8.0, memory: int = 2 << 30, questions: int = 500) -> None:
        self.seconds, self.memory, self.questions = seconds, memory, questions
        self.killed = 0
        """how many processes were ended because a question took too long or too much"""
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._lock = threading.Lock()

    def ask(self, gold: str, answer: str) -> tuple[bool | None, str]:
        """Whether math-verify takes `answer` for `gold`, and what it read in `answer`; None where that is nothing.

        VerifyFailed where it gives no verdict: that is no wrong answer.
        """
        with self._lock:
            try:
                if self._process is None or self._asked >= self.questions:
                    self._start()
                self._asked += 1
                said = self._ask({"gold": gold, "answer": answer}, self.seconds)
            except (OSError, ValueError) as error:
                self._kill()
                raise VerifyFailed(f"math-verify crashed ({error})") from error
        if "error" in said:
            raise VerifyFailed(said["error"])
        return said["same"], said["read"]

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._kill()

    def _start(self) -> None:
        self._kill()
        if importlib.util.find_spec("math_verify") is None:
            raise VerifyFailed("math-verify is not installed: pip install 'dokja[judge]'")
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH")}
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**keep, "OMP_NUM_THREADS": "1"},
        )
        self._asked = 0
        code = calls.build(processes=1).hex() if calls.known_machine() else ""
        self._ask({"memory": self.memory, "filter": code, "inside": str(_INSIDE)}, 60.0)

    def _ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        process = self._process
        assert process and process.stdin and process.stdout
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        heard, until = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not heard.endswith(b"\n"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    self._kill()
                    self.killed += 1
                    raise VerifyFailed(f"math-verify took longer than {seconds:g} s")
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    self._kill()
                    self.killed += 1
                    raise VerifyFailed("math-verify died, most likely of too much memory")
                heard += piece
        answer = json.loads(heard)
        assert isinstance(answer, dict)
        return answer

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    try:
                        pipe.close()
                    except OSError:
                        continue
            self._process = None


class Workers:
    """Several workers that take turns, so that a slow question delays only its own."""

    def __init__(self, count: int = 2, **options: Any) -> None:
        self._idle = [Worker(**options) for _ in range(count)]
        self._all = tuple(self._idle)
        self._free = threading.Condition()

    def ask(self, gold: str, answer: str) -> tuple[bool | None, str]:
        """As `Worker.ask`, by whichever worker is free; waits for one."""
        with self._free:
            while not self._idle:
                self._free.wait()
            worker = self._idle.pop()
        try:
            return worker.ask(gold, answer)
        finally:
            with self._free:
                self._idle.append(worker)
                self._free.notify()

    def close(self) -> None:
        """End all processes."""
        for worker in self._all:
            worker.close()


WORKERS = Workers()
"""The pool that graders share; its processes start with the first question."""
atexit.register(WORKERS.close)
