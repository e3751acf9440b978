"""Measure start-up in bare-Python start-ups, and each method's time for one 512 x 512 slice: `make bench`.

Ratios from one run, interleaved, medians: they hold where absolute times do not. Measure on an idle machine.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from medfpl.denoisers import METHODS
from medfpl.seeds import torch_generator

ROUNDS = 7
STARTS = {
    "python -c pass": ["-c", "pass"],
    "medfpl --version": ["-m", "medfpl", "--version"],
    "medfpl --help": ["-m", "medfpl", "--help"],
    "medfpl info": ["-m", "medfpl", "info"],
    "import torch": ["-c", "import torch"],
}


def timed(call: Callable[[], object]) -> float:
    """Return the seconds one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each call's median seconds; the calls take turns, after one turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            seconds = timed(call)
            if turn:
                times[name].append(seconds)
    return {name: statistics.median(found) for name, found in times.items()}


def start_ups() -> dict[str, float]:
    """Return the median seconds of each command of STARTS in a process of its own."""

    def start(arguments: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True)

    return interleaved({name: start(arguments) for name, arguments in STARTS.items()}, ROUNDS)


def methods() -> dict[str, float]:
    """Return each method's median seconds for one noisy slice, with the noise level given."""
    x = torch.rand(1, 1, 512, 512, generator=torch_generator(0, "bench"))

    def run(name: str) -> Callable[[], object]:
        denoiser = METHODS.get(name).make()
        return lambda: denoiser.denoise(x, noise_level=0.05)

    return interleaved({name: run(name) for name in METHODS.names()}, 3)


def main() -> None:
    """Print both tables."""
    starts = start_ups()
    bare = starts["python -c pass"]
    print("| start-up | ms | bare Python starts |\n| --- | --- | --- |")
    for name, seconds in starts.items():
        print(f"| {name} | {1000 * seconds:.0f} | {seconds / bare:.1f} |")
    print(
        f"\n| method, 512 x 512, {torch.get_num_threads()} threads | ms | times the mean filter |\n| --- | --- | --- |"
    )
    found = methods()
    for name, seconds in sorted(found.items(), key=lambda pair: pair[1]):
        print(f"| {name} | {1000 * seconds:.0f} | {seconds / found['mean']:.0f} |")


if __name__ == "__main__":
    main()
