"""Many files through one function: the next one is read while one is computed, and Ctrl-C leaves nothing behind."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):
    """The run was interrupted while this item was being worked on."""


class Slots:
    """What the worker threads share: how many may compute at once, and whether to stop."""

    def __init__(self, count: int) -> None:
        self._compute = threading.Semaphore(count)
        self._stop = threading.Event()

    def check(self) -> None:
        """Raise Stopped if the run was interrupted."""
        if self._stop.is_set():
            raise Stopped

    def stop(self) -> None:
        """Ask every worker to give up at its next step."""
        self._stop.set()

    @contextmanager
    def compute(self) -> Iterator[None]:
        """Wait for a place to compute; reading and writing need none."""
        with self._compute:
            yield


def run_batch(items: Sequence[T], work: Callable[[T, Slots], R], *, jobs: int = 1) -> Generator[tuple[int, R]]:
    """Yield (position, ``work(item, slots)``) as each is finished, ``jobs`` computing and one more reading or writing.

    At most ``jobs`` + 1 items are held in memory. An exception of ``work``, or in the caller's loop (Ctrl-C),
    stops the others at their next ``slots.check()`` and is raised once they have cleaned up.
    """
    slots = Slots(jobs)
    waiting: dict[Future[R], int] = {}
    pool = ThreadPoolExecutor(jobs + 1, thread_name_prefix="medfpl")
    try:
        for position, item in enumerate(items):
            if len(waiting) > jobs:
                yield from _finished(waiting)
            waiting[pool.submit(work, item, slots)] = position
        while waiting:
            yield from _finished(waiting)
    except BaseException:
        slots.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(waiting: dict[Future[R], int]) -> Iterator[tuple[int, R]]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    # Positions order what finished together, so that one thread's output is the same every time.
    for future in sorted(done, key=waiting.__getitem__):
        yield waiting.pop(future), future.result()
