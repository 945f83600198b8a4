"""The loader one or two steps ahead, in a thread: numpy lets go of the interpreter while it copies."""

import queue
import threading
from collections.abc import Callable

from dokja.data.batch import Batch

Make = Callable[[int, int, int], Batch]


class Prefetch:
    """Iterates over `make(start_step, rank, world)`, start_step + 1, ... without end, same values.

    An error of `make` is raised by `next`. Close it (or use `with`); the thread is a daemon and cannot keep a
    killed process alive."""

    def __init__(self, make: Make, start_step: int = 0, rank: int = 0, world: int = 1, depth: int = 2) -> None:
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(make, start_step, rank, world), name="prefetch", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> "Prefetch":
        return self

    def __next__(self) -> Batch:
        if self._closed.is_set():
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """Stop the thread; may be called twice."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self, make: Make, step: int, rank: int, world: int) -> None:
        while not self._closed.is_set():
            item: Batch | BaseException
            try:
                item = make(step, rank, world)
            except BaseException as error:  # whatever it is, the consumer is waiting and must hear of it
                item = error
            while not self._closed.is_set():
                try:
                    self._queue.put(item, timeout=0.05)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            step += 1
