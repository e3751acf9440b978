import os
import shutil
import signal

import pytest
import torch
from training_tools import run

from medfpl.errors import BadInput, MedfplError
from medfpl.store.store import open_store
from medfpl.training.data import Batch
from medfpl.training.loader import load_batches


class Batches:
    """Batches that meet something at step 2."""

    def __init__(self, trouble):
        self.trouble = trouble

    def __len__(self):
        return 1 << 40

    def __getitem__(self, step):
        if step == 2:
            self.trouble()
        return Batch(torch.full((1, 1, 2, 2), float(step)), torch.zeros(1, 1, 2, 2), ["clean"], step)


def refuse():
    raise BadInput("an image is missing", "find it")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_where_a_run_stands(workers):
    batches = load_batches(Batches(lambda: None), 1000, workers=workers, pin=False)
    assert [float(next(batches).clean.mean()) for _ in range(5)] == [1000, 1001, 1002, 1003, 1004]
    batches.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_error_is_the_line_that_it_was(workers):
    batches = load_batches(Batches(refuse), 1, workers=workers, pin=False)
    next(batches)
    with pytest.raises(BadInput) as caught:
        next(batches)
    assert (caught.value.message, caught.value.hint) == ("an image is missing", "find it")


def test_a_worker_that_dies_is_told():
    batches = load_batches(Batches(die), 2, workers=1, pin=False)
    with pytest.raises(MedfplError, match="process that prepares batches died"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_that_lost_an_image(tiny_store, tmp_path, workers):
    shutil.copytree(tiny_store.path, tmp_path / "store")
    for item in tiny_store.of("train"):
        shutil.rmtree(tmp_path / "store" / "images.zarr" / item.id)
    with pytest.raises(BadInput, match=r"^image i\d of the store cannot be read$"):
        run(open_store(tmp_path / "store"), tmp_path / "run", steps=2, **{"data.workers": workers})


def test_only_so_many_slices_are_kept(tiny_store, tmp_path):
    from medfpl.training.config import DataConfig
    from medfpl.training.data import TrainingBatches

    config = DataConfig(frame=40, patch=32, batch=4, noises=["gaussian"], cache_mb=0)
    kept = TrainingBatches(tiny_store, config, 0, 3)
    freely = TrainingBatches(tiny_store, config.model_copy(update={"cache_mb": 1}), 0, 3)
    for step in range(3):
        assert torch.equal(kept[step].noisy, freely[step].noisy)
    assert not kept._frames._cache
    assert freely._frames._cached == sum(v.nbytes for v in freely._frames._cache.values()) > 0
