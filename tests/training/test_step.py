import math

import pytest
import torch
from lightning_fabric import Fabric
from training_tools import SMALL, run, small_restoration, state

from medfpl.errors import MedfplError, UsageError
from medfpl.explain.guided import Rules, guided_map
from medfpl.explain.loss import FeaturePreservingLoss
from medfpl.nets.unet import UNet, UNetConfig
from medfpl.training import step
from medfpl.training.config import DataConfig, load_config
from medfpl.training.data import TrainingBatches
from medfpl.training.loop import _Loop


def loop_of(store, folder, explained=None, precision="32-true", **changes):
    """Return a training that has not begun; its denoiser's last layer is not zero."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    config = load_config(None, {**SMALL, "steps": 4, **changes})
    loop = _Loop(fabric, store, config, folder, lambda row: None, explained)
    torch.nn.init.normal_(loop.network.out.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return loop


def after_one_step(store, folder, explained=None, **changes):
    loop = loop_of(store, folder, explained, **changes)
    loop.step(loop.batches[0], 0, 1e-2)
    return state(loop.network)


def test_the_feature_preserving_loss_reaches_the_denoiser_and_never_the_explained_network(tiny_store, tmp_path):
    explained = small_restoration("batch")
    before = state(explained)
    # A weight so large that the residual loss is as good as nothing.
    loop = loop_of(tiny_store, tmp_path, explained, **{"fpl.weight": 1e6, "clip": 1e12})
    frozen = loop.step._feature._net
    folded = state(frozen)
    with_feature = [loop.step(loop.batches[k], k, 1e-2) for k in range(3)]
    assert torch.equal(state(explained), before)
    assert torch.equal(state(frozen), folded)
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    without = after_one_step(tiny_store, tmp_path)
    assert not torch.equal(after_one_step(tiny_store, tmp_path, explained, **{"fpl.weight": 1.0}), without)
    gradient = with_feature[0][3]
    alone = loop_of(tiny_store, tmp_path).step
    assert gradient > 1e3 * alone(loop.batches[0], 0, 1e-2)[3]


def test_the_sum_scalar_teaches_nothing(tiny_store, tmp_path):
    explained = small_restoration()
    wanted = after_one_step(tiny_store, tmp_path)
    given = {"fpl.weight": 1e3, "fpl.scalar": "sum"}
    assert torch.equal(after_one_step(tiny_store, tmp_path, explained, **given), wanted)


def test_copies_share_one_clean_map(tiny_store, tmp_path, monkeypatch):
    seen = []

    class Watched(FeaturePreservingLoss):
        def clean_map(self, clean):
            seen.append(clean)
            return super().clean_map(clean)

        def __call__(self, denoised, clean_map):
            seen.append((denoised, clean_map))
            return super().__call__(denoised, clean_map)

    monkeypatch.setattr("medfpl.training.networks.FeaturePreservingLoss", Watched)
    explained = small_restoration()
    loop = loop_of(tiny_store, tmp_path, explained, **{"fpl.weight": 1.0, "data.copies": 2})
    batch = loop.batches[0]
    row = loop.step(batch, 0, 1e-2)
    clean, (denoised, maps) = seen
    assert (len(clean), len(denoised), len(maps)) == (2, 4, 4)
    assert torch.equal(maps[0], maps[1])
    assert torch.allclose(maps[::2], guided_map(explained, batch.clean, Rules()), atol=1e-6)
    targets = batch.clean.repeat_interleave(2, 0)
    residual = (denoised - targets).square().mean((1, 2, 3)).add(1e-6).sqrt().mean()
    assert float(row[1]) == pytest.approx(float(residual.detach()), rel=1e-5)


def test_copies_are_different_corruptions_of_the_same_patch(tiny_store):
    config = DataConfig(frame=40, patch=32, batch=6, copies=3, clean=0.0, noises=["gaussian", "salt-pepper"])
    batch = TrainingBatches(tiny_store, config, 3, 4)[1]
    assert (len(batch.clean), len(batch.noisy), len(batch.labels), batch.copies) == (2, 6, 6, 3)
    assert not torch.equal(batch.noisy[0], batch.noisy[1])
    errors = batch.noisy - batch.clean.repeat_interleave(3, 0)
    others = batch.noisy - batch.clean.flip(0).repeat_interleave(3, 0)
    assert errors.square().sum() < 0.5 * others.square().sum()
    halves = list(batch.parts(2))
    assert torch.equal(halves[1].clean, batch.clean[1:])
    assert torch.equal(halves[1].noisy, batch.noisy[3:])


@pytest.mark.parametrize("changes", [{}, {"fpl.weight": 1.0, "data.copies": 2}])
def test_parts_of_a_batch_make_the_same_step(tiny_store, tmp_path, changes):
    whole = after_one_step(tiny_store, tmp_path, small_restoration(), **changes)
    parts = after_one_step(tiny_store, tmp_path, small_restoration(), accumulate=2, **changes)
    assert torch.allclose(parts, whole, atol=1e-5)


def test_both_gradients_are_measured_now_and_then(tiny_store, tmp_path):
    rows = []
    changes = {"steps": 4, "fpl.weight": 2.0, "fpl.norms_every": 2}
    run(tiny_store, tmp_path, report=rows.append, explained=small_restoration(), **changes)
    steps = [r for r in rows if r["event"] == "step"]
    assert ["feature_norm" in r for r in steps] == [False, True, False, True]
    assert all(r["loss"] == pytest.approx(r["residual"] + 2.0 * r["feature"], rel=1e-5) for r in steps)
    assert all(r["feature_norm"] > 0 and r["residual_norm"] > 0 for r in steps[1::2])


def test_bfloat16_takes_nearly_the_same_step(tiny_store, tmp_path):
    changes = {"fpl.weight": 1.0}
    rows = {}
    for precision in ("32-true", "bf16-mixed"):
        loop = loop_of(tiny_store, tmp_path, small_restoration(), precision, **changes)
        rows[precision] = loop.step(loop.batches[0], 0, 1e-3)[:4]
        assert all(p.dtype == torch.float32 for p in loop.network.parameters())
    assert torch.allclose(rows["bf16-mixed"], rows["32-true"], rtol=0.2)


def test_a_run_in_bfloat16_learns_and_resumes(tiny_store, tmp_path):
    changes = {"precision": "bf16-mixed", "explained": small_restoration(), "fpl.weight": 0.1}
    run(tiny_store, tmp_path, steps=3, **changes)
    result = run(tiny_store, tmp_path, resume=True, steps=6, **changes)
    assert math.isfinite(result.table["mean"]["psnr"])


def test_the_average_follows_the_weights(tiny_store, tmp_path):
    loop = loop_of(tiny_store, tmp_path, **{"ema": 0.9, "net.norm": "batch"})
    mean = {k: v.clone() for k, v in loop.ema.state_dict().items()}
    for k in range(3):
        loop.step(loop.batches[k], k, 1e-2)
        keep = min(0.9, (1 + k) / (10 + k))
        for name, now in loop.network.state_dict().items():
            mean[name] = now if not now.is_floating_point() else mean[name] * keep + now * (1 - keep)
    for name, value in loop.ema.state_dict().items():
        assert torch.allclose(value, mean[name], atol=1e-6)


def test_a_weight_needs_a_network_to_explain(tiny_store, tmp_path):
    with pytest.raises(MedfplError, match="needs a network to explain"):
        run(tiny_store, tmp_path, steps=1, **{"fpl.weight": 1.0})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"data.copies": 3}, "does not divide"), ({"accumulate": 3}, "does not divide"), ({"data.patch": 64}, "larger")],
)
def test_batches_that_cannot_be_made(tiny_store, tmp_path, changes, reason):
    with pytest.raises(UsageError, match=reason):
        run(tiny_store, tmp_path, steps=1, **changes)


def test_out_of_memory_comes_with_advice(tiny_store, tmp_path, monkeypatch):
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 1 TB")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(step.Step, "__call__", fail)
        with pytest.raises(MedfplError, match="out of memory") as caught:
            run(tiny_store, tmp_path, steps=1)
        assert "accumulate" in caught.value.hint


def test_the_papers_network_is_built_without_memory():
    with torch.device("meta"):
        net = UNet(UNetConfig(width=64, depth=4, unshuffle=1, norm="batch"))
    assert sum(p.numel() for p in net.parameters()) == 17_261_825
    out = net(torch.empty(2, 1, 250, 256, device="meta"))
    assert out.shape == (2, 1, 250, 256)
