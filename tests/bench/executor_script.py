"""Run by test_executors in a process of its own: maps over worker processes that tell their numbers, then waits."""

import os
import sys
import time

from medfpl.bench.executors import open_executor


def number(wait: float) -> int:
    time.sleep(wait)
    return os.getpid()


if __name__ == "__main__":
    with open_executor("processes", 1) as mapped:
        for pid in mapped(number, [0.0, 600.0]):
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
    sys.exit("nobody ended it")
