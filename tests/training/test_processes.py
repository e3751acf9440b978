"""Two processes that share a global batch take the steps of one."""

import pytest
import torch
from lightning_fabric import Fabric
from training_tools import SMALL, run, small_restoration, state

from medfpl.store.store import open_store
from medfpl.training.config import load_config
from medfpl.training.loop import train

# The smooth gate: a gate of ReLU that opens by a rounding error changes the map, and the loss, by a step.
CHANGES = {
    "fpl.gate": "smooth", "learning_rate": 1e-4,
    "steps": 4, "fpl.weight": 0.1, "fpl.norms_every": 2, "data.copies": 2, "validate_every": 2, "log_every": 2,
    "data.batch": 8, "accumulate": 2,
}  # fmt: skip


def train_here(fabric, store, folder):
    rows = []
    config = load_config(None, {**SMALL, **CHANGES})
    torch.set_num_threads(1)
    result = train(fabric, open_store(store), config, folder, report=rows.append, explained=small_restoration())
    # Plain numbers: a tensor would stay behind in the process that ends.
    return fabric.global_rank, rows, state(result.net).tolist(), result.table


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tiny_store, tmp_path):
    (tmp_path / "two").mkdir()
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn", precision="32-true")
    rank, rows, weights, table = fabric.launch(train_here, tiny_store.path, tmp_path / "two")
    alone = []
    one = run(tiny_store, tmp_path / "one", report=alone.append, explained=small_restoration(), **CHANGES)
    assert rank == 0
    assert [(r["event"], r["step"]) for r in rows] == [(r["event"], r["step"]) for r in alone]
    for two_row, one_row in zip(rows, alone, strict=True):
        for name in ("loss", "residual", "feature", "gradient") if two_row["event"] == "step" else ():
            # The gradient of a second derivative loses digits to cancellation: one or two, as the processor sums.
            assert two_row[name] == pytest.approx(one_row[name], rel=1e-3 if name == "gradient" else 1e-5), name
    assert torch.allclose(torch.tensor(weights, dtype=torch.float64), state(one.net), atol=1e-5)
    for noise, scores in one.table.items():
        assert table[noise] == pytest.approx(scores, rel=1e-4)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["denoiser.best.ckpt", "denoiser.ckpt"]
