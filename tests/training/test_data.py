import numpy as np
import torch
from torch.utils.data import DataLoader

from medfpl.noises.base import Context
from medfpl.noises.mixture import Mixture, apply_plans, plan_item
from medfpl.store.store import Item, create_store, finish_store, write_item
from medfpl.training.config import DataConfig
from medfpl.training.data import Frames, TrainingBatches, fit, resize

CONFIG = DataConfig(frame=40, patch=32, batch=4, workers=0, noises=["gaussian", "salt-pepper"])


def test_a_step_is_the_same_whatever_the_number_of_workers(tiny_store):
    data = TrainingBatches(tiny_store, CONFIG, 3, 4)
    alone = [data[i] for i in range(4)]
    for step, other in enumerate(DataLoader(data, batch_size=None, num_workers=2)):
        assert torch.equal(other.noisy, alone[step].noisy)
        assert torch.equal(other.clean, alone[step].clean)
        assert other.labels == alone[step].labels
    assert not torch.equal(alone[0].clean, alone[1].clean)


def test_noises_come_by_their_weights(tiny_store):
    config = CONFIG.model_copy(update={"noise_weights": {"salt-pepper": 0.0}, "clean": 0.0, "pair": 0.0})
    batches = TrainingBatches(tiny_store, config, 0, 20)
    assert {label for step in range(20) for label in batches[step].labels} == {"gaussian"}


def test_devices_share_one_global_batch(tiny_store):
    whole = TrainingBatches(tiny_store, CONFIG, 3, 1)[0]
    halves = [TrainingBatches(tiny_store, CONFIG, 3, 1, rank=r, world=2)[0] for r in range(2)]
    assert torch.equal(torch.cat([h.noisy for h in halves]), whole.noisy)


def test_a_pool_is_drawn_once_and_comes_again_in_another_order(tiny_store):
    config = CONFIG.model_copy(update={"pool": 14})  # three batches of 4, and 2 items too few for another
    data, always_new = TrainingBatches(tiny_store, config, 3, 30), TrainingBatches(tiny_store, CONFIG, 3, 3)
    numbers = [data[step].number for step in range(30)]
    assert all(sorted(numbers[lap : lap + 3]) == [0, 1, 2] for lap in range(0, 30, 3))
    assert len({tuple(numbers[lap : lap + 3]) for lap in range(0, 30, 3)}) > 1
    for step in (0, 7, 29):
        assert torch.equal(data[step].noisy, always_new[numbers[step]].noisy)
    data[0].noisy.zero_()  # what is handed out is a copy
    assert torch.equal(data[0].noisy, always_new[numbers[0]].noisy)
    later = TrainingBatches(tiny_store, config, 3, 30)  # a training that goes on meets the same
    assert [later[step].number for step in (7, 29)] == [numbers[7], numbers[29]]
    assert {part.number for part in data[0].parts(2)} == {2 * numbers[0], 2 * numbers[0] + 1}


def test_only_training_patients_are_drawn(tiny_store):
    data = TrainingBatches(tiny_store, CONFIG, 0, 50)
    for step in range(50):
        data[step]
    used = {i.split for i in tiny_store.items if i.id in {key[0] for key in data._frames._cache}}
    assert used == {"train"}


def test_of_a_volume_its_middle_half_may_be_asked_for(tmp_path):
    create_store(tmp_path / "store", {"size": 0})
    item = Item("i0", "mr", "p0", "val", 9, 40, 40, "1", 0.0, 1000.0, 1.0, 0.0, 1.0, 1.0, "00")
    write_item(tmp_path / "store", item, np.full((9, 40, 40), 500, np.int16))
    store = finish_store(tmp_path / "store")
    for middle, expected in ((False, set(range(9))), (True, set(range(2, 7)))):
        frames, rng = Frames(store, "val", CONFIG), np.random.default_rng(0)
        for _ in range(100):
            frames.draw(rng, 40, middle=middle)
        assert {index for _, index in frames._cache} == expected


def test_resize_and_fit_keep_what_they_should():
    image = torch.full((1, 30, 20), 0.5)
    assert resize(image, 1.0) is image
    assert resize(image, 0.5).shape == (1, 15, 10)
    assert torch.allclose(resize(image, 0.5), torch.tensor(0.5))
    framed = fit(image, 24)
    assert framed.shape == (1, 24, 24)
    assert framed.sum() == 0.5 * 24 * 20
    assert torch.equal(fit(torch.arange(25.0).view(1, 5, 5), 3, (0.0, 0.999))[0, 0], torch.tensor([2.0, 3.0, 4.0]))


def test_the_mixture_has_its_shares():
    mixture = Mixture(names=("gaussian", "salt-pepper"), clean=0.2, pair=0.5)
    plans = [plan_item(mixture, seed, Context()) for seed in range(2000)]
    clean = sum(not p.steps for p in plans) / 2000
    assert abs(clean - 0.2) < 5 * (0.2 * 0.8 / 2000) ** 0.5
    strengths = torch.tensor([p.steps[0][1] for p in plans if p.steps])
    assert strengths.min() >= 0.02
    assert strengths.max() <= 1.0
    assert abs(strengths.log().mean() - torch.tensor([0.02, 1.0]).log().mean()) < 0.15
    assert {n for p in plans for n, *_ in p.steps} == {"gaussian", "salt-pepper"}


def test_a_plans_result_does_not_depend_on_its_batch():
    mixture = Mixture()
    contexts = [Context("ct", -1000, 1000, 0.8), Context("mr"), Context("xray")] * 4
    plans = [plan_item(mixture, seed, c) for seed, c in enumerate(contexts)]
    x = torch.rand(12, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    together = apply_plans(x, plans, range(12), contexts)
    for i in range(12):
        alone = apply_plans(x[i : i + 1], plans[i : i + 1], [i], contexts[i : i + 1])
        assert torch.allclose(alone[0], together[i], atol=1e-5)
        if not plans[i].steps:
            assert torch.equal(together[i], x[i])
