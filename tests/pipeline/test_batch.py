import threading
import time
from contextlib import closing

import pytest

from medfpl.pipeline.batch import Slots, Stopped, run_batch


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_item_once(jobs: int) -> None:
    found = dict(run_batch(range(40), lambda item, slots: item * item, jobs=jobs))
    assert found == {i: i * i for i in range(40)}


def test_no_items() -> None:
    assert list(run_batch([], lambda item, slots: item)) == []


@pytest.mark.parametrize("jobs", [1, 3])
def test_bounded_work(jobs: int) -> None:
    lock = threading.Lock()
    now = {"held": 0, "computing": 0}
    most = dict(now)

    def work(item: int, slots: Slots) -> int:
        with counted("held"):
            time.sleep(0.001)
            with slots.compute(), counted("computing"):
                time.sleep(0.002)
        return item

    class counted:
        def __init__(self, what: str) -> None:
            self.what = what

        def __enter__(self) -> None:
            with lock:
                now[self.what] += 1
                most[self.what] = max(most[self.what], now[self.what])

        def __exit__(self, *exc: object) -> None:
            with lock:
                now[self.what] -= 1

    assert len(list(run_batch(range(30), work, jobs=jobs))) == 30
    assert most["computing"] <= jobs
    assert most["held"] <= jobs + 1


def test_next_item_is_read_while_one_computes() -> None:
    reading = threading.Event()

    def work(item: int, slots: Slots) -> bool:
        if item == 1:
            reading.set()
        with slots.compute():
            return reading.wait(timeout=10)

    assert dict(run_batch(range(2), work, jobs=1)) == {0: True, 1: True}


def test_failure_stops_the_rest_and_is_raised() -> None:
    started: list[int] = []

    def work(item: int, slots: Slots) -> int:
        started.append(item)
        if item == 2:
            raise RuntimeError("two")
        return item

    with pytest.raises(RuntimeError, match="two"):
        list(run_batch(range(1000), work, jobs=1))
    assert len(started) < 10


def test_closing_ends_the_workers_at_their_next_check() -> None:
    started, ended = threading.Event(), threading.Event()

    def work(item: int, slots: Slots) -> int:
        if item == 0:
            return item
        started.set()
        try:
            while True:
                slots.check()
                time.sleep(0.001)
        except Stopped:
            ended.set()
            raise

    with closing(run_batch(range(5), work, jobs=1)) as results:
        next(results)
        assert started.wait(timeout=10)
    assert ended.is_set()
    assert not [t for t in threading.enumerate() if t.name.startswith("medfpl")]
