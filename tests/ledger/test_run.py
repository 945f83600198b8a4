"""The run folder: one writer at a time, and no lock outlives its holder."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dokja.errors import RunBusy
from dokja.ledger.run import Run

SRC = Path(__file__).parents[2] / "src"
HOLD = """
import sys, time
from dokja.ledger.run import Run
with Run(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""
# The child speaks, so that it has surely let go of the lock's handle by then.
HOLD_AND_FORK = HOLD.replace('print("held"', "import os\n    os.fork() or print(os.getpid()")


def holder(path: Path, code: str = HOLD) -> tuple[subprocess.Popen[str], str]:
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_run_held_by_another_process_is_busy_and_its_pid_is_named(tmp_path: Path) -> None:
    process, _ = holder(tmp_path / "run")
    try:
        with pytest.raises(RunBusy) as caught, Run(tmp_path / "run").lock():
            pass
        assert f"process {process.pid}" in str(caught.value)
    finally:
        process.kill()
        process.wait()


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    process, _ = holder(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / "run.lock").exists()
    with Run(tmp_path / "run").lock():
        assert (tmp_path / "run" / "run.lock").read_text() == f"{os.getpid()}\n"


def test_a_worker_that_outlives_its_killed_parent_does_not_keep_the_run_locked(tmp_path: Path) -> None:
    process, child = holder(tmp_path / "run", HOLD_AND_FORK)
    try:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(int(child), 0)  # still there
        with Run(tmp_path / "run").lock():
            pass
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_the_lock_is_free_again_after_use_and_after_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.lock():
        pass
    with pytest.raises(RuntimeError), run.lock():
        raise RuntimeError
    with run.lock():
        pass


def test_a_second_lock_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path).lock(), pytest.raises(RunBusy), Run(tmp_path).lock():
        pass


def _take_turn(path: str, queue: "multiprocessing.Queue[int]") -> None:
    try:
        with Run(path).lock():
            queue.put(1)
            time.sleep(0.5)
    except RunBusy:
        queue.put(0)


def test_of_processes_that_start_together_one_gets_the_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_take_turn, args=(str(tmp_path), queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    won = [queue.get(timeout=10) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(won) == 1


def test_attempts_are_counted_and_latest_is_the_last(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first, second = run.new_attempt(), run.new_attempt()
    assert (first.path.name, second.path.name) == ("attempt_001", "attempt_002")
    assert (tmp_path / "attempts" / "latest").resolve() == second.path.resolve()
    second.log("안녕")
    assert second.log_path.read_text(encoding="utf-8").endswith("Z 안녕\n")
    assert [attempt.path for attempt in run.attempts()] == [first.path, second.path]


def test_naming_a_run_makes_no_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "new")
    assert run.attempts() == [] and not run.path.exists()
    assert run.stage_dir("pretrain").is_dir()
