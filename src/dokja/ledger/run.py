"""The run folder: who may write in it, where its stages lie, and the log of every attempt.

```
runs/tiny/
  run.lock            flock of the process that is building; its pid is inside
  ledger.jsonl        hash chain
  attempts/           attempt_001/log.txt, attempt_002/log.txt, …, latest -> attempt_002
  <stage>/            manifest.json, metrics.jsonl, samples.jsonl and the stage's outputs
```
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dokja.errors import RunBusy

_held: set[int] = set()


def _let_go_after_fork() -> None:
    """A forked worker shares our lock's file: unless it closes it, it would keep the run locked after we die."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)


@dataclass(frozen=True)
class Attempt:
    """One launch of the same command on the run."""

    path: Path

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    def log(self, text: str) -> None:
        """Add one line, with the time of day (UTC)."""
        with open(self.log_path, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")


class Run:
    """A run folder. Making the object writes nothing; the folder appears with the first lock, stage or attempt."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process. Raises RunBusy, with the holder's pid, when another process has it.

        The kernel frees the lock of a process that died, so a run.lock left behind is no obstacle.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise RunBusy(
                f"{self.path} is being built by process {pid}. Wait for it, stop it with `kill {pid}` (it saves "
                "first), or give this run another name with --set name=…"
            ) from None
        _held.add(handle)
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            _held.discard(handle)
            os.close(handle)

    def stage_dir(self, name: str) -> Path:
        """The folder of one stage, made if need be."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def attempts(self) -> list[Attempt]:
        """Every launch so far, oldest first."""
        return [Attempt(path) for path in sorted((self.path / "attempts").glob("attempt_*"))]

    def new_attempt(self) -> Attempt:
        """Make the next attempt's folder with an empty log.txt and turn `latest` to it. Call it under the lock."""
        made = self.attempts()
        number = int(made[-1].path.name.removeprefix("attempt_")) + 1 if made else 1
        attempt = Attempt(self.path / "attempts" / f"attempt_{number:03d}")
        attempt.path.mkdir(parents=True)
        attempt.log_path.touch()
        link = attempt.path.parent / "latest.partial"
        link.unlink(missing_ok=True)
        link.symlink_to(attempt.path.name)
        latest = attempt.path.parent / "latest"
        if latest.is_dir() and not latest.is_symlink():  # a copy of the run that followed links
            shutil.rmtree(latest)
        link.replace(latest)
        return attempt
