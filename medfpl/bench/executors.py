"""Where units are worked on: in this process, in processes of this machine, or by dask on many machines."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from medfpl.errors import MedfplError, MissingDependency, UsageError

T = TypeVar("T")
R = TypeVar("R")
Map = Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]
FORMS = "processes, serial, dask, or dask:HOST:PORT of a scheduler"


def open_executor(name: str, workers: int) -> AbstractContextManager[Map[Any, Any]]:
    """Return a context whose value maps a function over jobs: results come as they are done, in no order.

    Jobs are taken from their iterable as places get free, twice ``workers`` ahead, so that few are in memory. Each
    process computes with one thread.

    Raises:
        UsageError: for a name that is none of FORMS.
        MissingDependency: for dask without its package.
    """
    if name == "serial":
        return _serial()
    if name == "processes":
        return _processes(workers)
    if name == "dask" or name.startswith("dask:"):
        return _dask(name.removeprefix("dask").removeprefix(":"), workers)
    raise UsageError(f"--executor {name} is unknown", f"choose {FORMS}")


@contextmanager
def _serial() -> Iterator[Map[Any, Any]]:
    import torch

    # One thread, as in the other executors: sums come out the same to the last bit.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield map
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _processes(workers: int) -> Iterator[Map[Any, Any]]:
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        yield _mapped(pool, 2 * workers)
    except BaseException:
        # What they were at is done again on --resume; nobody waits for it.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)


@contextmanager
def _dask(address: str, workers: int) -> Iterator[Map[Any, Any]]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise MissingDependency("--executor dask needs dask.distributed", "pip install 'medfpl[dask]'") from None
    if address:
        try:
            client = Client(address, timeout="10s")
        except (OSError, ValueError, TimeoutError) as error:
            raise MedfplError(f"no dask scheduler answers at {address}") from error
        cluster = None
    else:
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR")
        client = Client(cluster)
    try:
        places = 2 * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        yield _mapped(client.get_executor(pure=False), places)
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _mapped(pool: Executor, places: int) -> Map[Any, Any]:
    def run(work: Callable[[T], R], jobs: Iterable[T]) -> Iterator[R]:
        waiting: set[Future[R]] = set()
        try:
            for job in jobs:
                # Packed here: torch would hand its tensors to other processes through shared memory.
                waiting.add(pool.submit(_call, pickle.dumps((work, job))))
                if len(waiting) >= places:
                    yield from _finished(waiting)
            while waiting:
                yield from _finished(waiting)
        except BrokenExecutor:
            raise MedfplError(
                "a worker process ended, perhaps for want of memory", "go on with --resume and fewer --workers"
            ) from None

    return run


def _finished(waiting: set[Future[R]]) -> Iterator[R]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        waiting.remove(future)
        yield future.result()


def _call(packed: bytes) -> Any:
    import torch

    torch.set_num_threads(1)
    work, job = pickle.loads(packed)
    return work(job)


def _begin_worker() -> None:
    """Set up a worker process: deaf to Ctrl-C, for its parent ends it, and gone when its parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
