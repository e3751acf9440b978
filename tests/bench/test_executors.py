"""Where units are worked on: every executor gives every result once, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medfpl.bench.executors import open_executor
from medfpl.errors import MedfplError, MissingDependency, UsageError

SCRIPT = Path(__file__).with_name("executor_script.py")


def square(x):
    return int(x) ** 2, torch.get_num_threads()


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", ["serial", "processes"])
def test_every_job_is_done_once_on_one_thread(name):
    threads = torch.get_num_threads()
    with open_executor(name, 2) as mapped:
        done = sorted(mapped(square, map(torch.tensor, range(7))))
    assert done == [(n * n, 1) for n in range(7)]
    assert torch.get_num_threads() == threads


def test_few_jobs_are_taken_ahead():
    taken = []

    def jobs():
        for n in range(30):
            taken.append(n)
            yield n

    with open_executor("processes", 1) as mapped:
        results = mapped(square, jobs())
        next(results)
        assert len(taken) <= 4
        assert len(list(results)) == 29


def test_a_worker_that_dies_is_one_line():
    with pytest.raises(MedfplError, match="worker process ended"), open_executor("processes", 1) as mapped:
        list(mapped(die, [1]))


def test_an_executor_that_is_none_is_refused():
    with pytest.raises(UsageError, match="unknown"):
        open_executor("slurm", 1)


def test_dask_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependency) as caught, open_executor("dask", 1):
        pass
    assert "medfpl[dask]" in caught.value.hint


def test_dask_without_a_scheduler_is_one_line():
    pytest.importorskip("distributed")
    with pytest.raises((MedfplError, UsageError)), open_executor("dask:nowhere", 1):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda n: n.name)
def test_workers_end_with_their_parent(number):
    command, quiet = [sys.executable, str(SCRIPT)], subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, preexec_fn=heed_ctrl_c) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(number)
        assert parent.wait(30) != 0
    until = time.monotonic() + 30
    while _lives(worker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not _lives(worker)


def heed_ctrl_c():
    # What a shell runs in its background ignores Ctrl-C, and so would a child of it: for ever.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
