"""Choose the benchmark's settings of each method on validation patients: writes medfpl/bench/tuned.csv and tuned.json.

    python scripts/tune_bench.py STORE [--methods A,B] [--cases 3] [--size 256]

Every noise at its default mode and strength 0.5; the best mean PSNR decides. Rows of methods that are not tuned
again stay as they are.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import torch

import medfpl
from medfpl.bench import tune, tuning
from medfpl.bench.data import DataSettings, find_cases
from medfpl.bench.plan import BenchSettings, Entry, default_corruptions, make_plan, weights_of
from medfpl.denoisers import METHODS
from medfpl.store.store import open_store

FOLDER = Path(medfpl.__file__).parent / "bench"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--methods", help="default: all that have settings to choose")
    parser.add_argument("--cases", type=int, default=3, help="a kind")
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    every = [name for name in METHODS.names() if len(tune.grid(name, level_known=True)) > 1]
    methods = given.methods.split(",") if given.methods else every
    cases = find_cases(given.store, DataSettings(limit=given.cases, size=given.size, split="val"))
    settings = BenchSettings(tuple(map(Entry.parse, methods)), default_corruptions(every=True), tuning="none")
    plan = make_plan(cases.chosen, settings)
    trials, started = [], time.monotonic()
    loaded = {c.id: c.load() for c in cases.chosen}
    for n, unit in enumerate(plan.units, start=1):
        trials += tune.try_settings(loaded[unit.case], unit, methods)
        print(f"{n}/{len(plan.units)} {unit.key} {time.monotonic() - started:.0f} s", flush=True)
    table = FOLDER / tuning.TABLE
    rows = tune.best_rows(trials)
    with table.open(newline="", encoding="utf-8") as file:
        kept = [row for row in csv.DictReader(file) if row["method"] not in methods]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, tuning.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda r: (r["method"], r["noise"], r["kind"])))
    command = f"python scripts/tune_bench.py STORE --cases {given.cases} --size {given.size}"
    about = {
        "command": command,
        "store": open_store(given.store).fingerprint(),
        "split": "val",
        "cases": {c.id: c.intensity.kind for c in cases.chosen},
        "patients": len({c.patient for c in cases.chosen}),
        "version": medfpl.__version__,
    }
    whole = tuning.about_tuning() | {m: about | {"weights": weights_of(Entry(m))} for m in methods}
    (FOLDER / tuning.ABOUT).write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
