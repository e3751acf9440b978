import os
import signal
import threading

import pytest
import torch
from training_tools import run, state

from medfpl.training.checkpoint import load_checkpoint
from medfpl.training.interrupts import Interrupts
from medfpl.training.step import Step


def send(number):
    os.kill(os.getpid(), number)


def interrupted(interrupts, number, times, done):
    with interrupts.held():
        for _ in range(times):
            send(number)
            done.append("held")
    done.append("after")  # never


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_is_held(number):
    done = []
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            interrupted(interrupts, number, 2, done)
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert done == ["held", "held"]
    assert not interrupts.torn


def test_asking_a_third_time_tears():
    done = []
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        interrupted(interrupts, signal.SIGINT, 4, done)
    assert interrupts.torn
    assert done == ["held", "held"]


def test_the_handlers_before_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError), Interrupts():
        raise ValueError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_another_thread_may_train_too():
    entered = []

    def work():
        with Interrupts() as interrupts, interrupts.held():
            entered.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_step_ends_a_run_after_it(tiny_store, tmp_path, monkeypatch, number):
    straight = run(tiny_store, tmp_path / "a", steps=6)
    original = Step.__call__

    def interrupted(self, batch, step, rate):
        if step == 2:
            send(number)
        return original(self, batch, step, rate)

    monkeypatch.setattr(Step, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_store, tmp_path / "b", steps=6)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "b" / "denoiser.ckpt")["progress"]["step"] == 3
    resumed = run(tiny_store, tmp_path / "b", resume=True, steps=6)
    assert torch.equal(state(resumed.net), state(straight.net))
