"""The network as a denoiser: residual, tiles, values outside its range, independence of the batch."""

import pytest
import torch

from medfpl.denoisers import METHODS
from medfpl.denoisers.methods.medfpl import LARGEST_CHANGE, MEAN_CHANGE, NetworkDenoiser, worth_taking
from medfpl.errors import UsageError
from medfpl.nets.correctors import CorrectorConfig
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.experts import build_experts, with_correctors
from medfpl.nets.give_back import without_local_mean
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import save_net


@pytest.fixture(params=["unet", "drunet"])
def run(tmp_path, request):
    """A run folder with a small network that predicts something."""
    if request.param == "drunet":
        net = build_drunet(DRUNetConfig(width=4, blocks=1, blind=True), torch.Generator().manual_seed(0))
    else:
        net = build_unet(UNetConfig(width=4, depth=2, unshuffle=2, norm="none"), torch.Generator().manual_seed(0))
        torch.nn.init.normal_(net.out.weight, std=0.05, generator=torch.Generator().manual_seed(1))
    save_net(net, tmp_path / "run", {"name": "tiny", "role": "denoiser", "summary": "a test"})
    return tmp_path / "run"


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_result_is_the_image_less_what_the_network_predicts(run):
    denoiser = METHODS.get("medfpl").make(model=str(run), undo="none")
    x = image(2, 1, 33, 40)
    assert torch.allclose(denoiser.denoise(x), x - denoiser.net(x), atol=1e-6)
    assert not torch.allclose(denoiser.denoise(x), x)


def test_large_images_are_tiled_with_the_same_result(run):
    whole = METHODS.get("medfpl").make(model=str(run), undo="none")
    tiled = NetworkDenoiser(whole.net, whole.model, whole_pixels=1, tile=32)
    x = image(1, 1, 150, 171)
    assert (tiled.denoise(x) - whole.denoise(x)).abs().max() < 1e-5


def test_values_beyond_its_range_keep_their_excess(run):
    denoiser = METHODS.get("medfpl").make(model=str(run), undo="none")
    x = image(1, 1, 32, 32)
    metal = x.clone()
    metal[..., 10:14, 10:14] = 9.0
    at_the_limit = metal.clamp(max=3.0)
    assert torch.allclose(denoiser.denoise(metal) - metal, denoiser.denoise(at_the_limit) - at_the_limit, atol=1e-5)


def test_items_do_not_depend_on_their_batch(run):
    denoiser = METHODS.get("medfpl").make(model=str(run))
    x = image(3, 1, 24, 24)
    together = denoiser.denoise(x)
    for i in range(3):
        assert torch.allclose(denoiser.denoise(x[i : i + 1])[0], together[i], atol=1e-6)


def test_double_precision_comes_back_and_the_input_stays(run):
    denoiser = METHODS.get("medfpl").make(model=str(run))
    x = image(1, 1, 16, 16).double()
    before = x.clone()
    assert denoiser.denoise(x).dtype == torch.double
    assert torch.equal(x, before)


def test_stripes_are_undone_before_the_network_sees_the_image(run, monkeypatch):
    x = torch.full((2, 1, 96, 96), 0.3) + 0.01 * image(2, 1, 96, 96)
    striped = x.clone()
    striped[1] += 0.1 * torch.sin(torch.arange(96) / 3)
    denoiser = METHODS.get("medfpl").make(model=str(run))
    seen, found = denoiser.undone(striped)
    assert [list(here) for here in found] == [[], ["stripes"]]
    assert torch.equal(seen[0], x[0])
    assert (seen[1] - x[1]).square().mean() < 1e-6
    told = []
    with monkeypatch.context() as patched:
        patched.setattr(NetworkDenoiser, "_run", lambda self, net, x: told.append(x) or torch.zeros_like(x))
        done = denoiser.restore(striped)
        assert torch.equal(told[0], seen)
        assert torch.equal(done.result, seen)
        assert torch.equal(done.undone, seen)
        assert [list(here) for here in done.found] == [[], ["stripes"]]
        left = METHODS.get("medfpl").make(model=str(run), undo="none").restore(striped)
        assert torch.equal(left.result, striped)
        assert left.found == [{}, {}]


def test_stripes_that_noise_hides_are_undone_once_it_is_gone(run, monkeypatch):
    generator = torch.Generator().manual_seed(5)
    plain = 0.3 + 0.01 * image(2, 1, 96, 96)
    hiding = 0.3 * torch.randn(plain.shape, generator=generator)
    stripes = torch.tensor([0.0, 0.1]).view(2, 1, 1, 1) * torch.sin(torch.arange(96) / 3)
    x = plain + stripes + hiding
    monkeypatch.setattr("medfpl.denoisers.methods.medfpl.run_tiled", lambda net, seen, **_: hiding[-len(seen) :])
    denoiser = METHODS.get("medfpl").make(model=str(run))
    seen, found = denoiser.undone(x)
    assert found == [{}, {}]
    assert torch.equal(seen, x)
    done = denoiser.restore(x)
    assert [list(here) for here in done.found] == [[], ["stripes"]]
    assert torch.equal(done.undone[0], x[0])
    assert (done.undone[1] - plain[1] - hiding[1]).square().mean() < 1e-6
    assert (done.result - plain).square().mean() < 1e-6
    assert torch.equal(denoiser.denoise(x), done.result)
    alone = denoiser.restore(x[1:])
    assert alone.found == done.found[1:]
    assert torch.equal(alone.result, done.result[1:])
    left = METHODS.get("medfpl").make(model=str(run), undo="motion-blur").restore(x)
    assert left.found == [{}, {}]
    torch.testing.assert_close(left.result, plain + stripes)


def test_correctors_see_the_image_without_the_stripes_that_noise_hid(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(5)
    plain = 0.3 + 0.01 * image(1, 1, 96, 96)
    hiding = 0.3 * torch.randn(plain.shape, generator=generator)
    denoiser = with_all(tmp_path / "run")
    seen = []

    def run(self, net, x):
        if net in [*self.net.experts]:
            return hiding
        seen.append(x)
        return torch.zeros_like(x)

    monkeypatch.setattr(NetworkDenoiser, "_run", run)
    monkeypatch.setattr("medfpl.nets.experts.without_local_mean", lambda noise, x, **_: noise)
    done = denoiser.restore(plain + 0.1 * torch.sin(torch.arange(96) / 3) + hiding)
    assert len(seen) == len(ALL)
    assert all((x - plain).square().mean() < 1e-6 for x in seen)
    assert (done.result - plain).square().mean() < 1e-6


@pytest.mark.parametrize("faint", [0, "auto", "3"])
def test_correctors_do_not_see_the_noise_that_comes_back_for_faint_lesions(tmp_path, monkeypatch, faint):
    plain = 0.5 + 0.1 * image(1, 1, 96, 96)
    noise = 0.02 * torch.randn(plain.shape, generator=torch.Generator().manual_seed(5))
    denoiser = with_all(tmp_path / "run", undo="none", faint=faint)
    seen = []

    def run(self, net, x):
        if net in [*self.net.experts]:
            return noise
        seen.append(x)
        return torch.zeros_like(x)

    monkeypatch.setattr(NetworkDenoiser, "_run", run)
    left = denoiser.denoise(plain + noise)
    assert len(seen) == len(ALL)
    for x in seen:
        torch.testing.assert_close(x, plain)
    most = None if faint == "auto" else float(faint) / 100
    torch.testing.assert_close(left, plain + noise - without_local_mean(noise, plain + noise, offset=False, most=most))
    assert torch.allclose(left, plain, atol=1e-6) == (faint == 0)


@pytest.mark.parametrize(("faint", "reason"), [("11", "outside 0 to 10"), ("none", "needs a number")])
def test_how_much_may_come_back_is_checked(tmp_path, faint, reason):
    with pytest.raises(UsageError, match=reason):
        with_all(tmp_path / "run", faint=faint)


def test_a_single_network_gives_nothing_back_and_says_so(run):
    with pytest.raises(UsageError, match="tiny gives no local means back"):
        METHODS.get("medfpl").make(model=str(run), faint=1)


def test_what_cannot_be_undone_is_told(run):
    with pytest.raises(UsageError, match="is not allowed"):
        METHODS.get("medfpl").make(model=str(run), undo="stripes+rings")


def test_an_unknown_model_is_told():
    with pytest.raises(UsageError, match="no denoiser model"):
        METHODS.get("medfpl").make(model="nothing-of-that-name")


def test_what_is_found_in_a_clean_image_is_not_taken():
    x = torch.full((4, 1, 64, 64), 0.5)
    noise = torch.zeros_like(x)
    noise[:3] = 0.5 * torch.tensor([0.9 * MEAN_CHANGE[0], 1.5 * MEAN_CHANGE[0], MEAN_CHANGE[1]]).view(3, 1, 1, 1)
    noise[3, 0, 7, 9] = 0.5 * LARGEST_CHANGE[1]  # one bad pixel is next to nothing on average
    share = worth_taking(noise, x).flatten()
    assert share.tolist() == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-4)
    assert share[0] == 0
    torch.testing.assert_close(worth_taking(100 * noise, 100 * x).flatten(), share)


def test_a_clean_image_comes_back_bit_for_bit(run, monkeypatch):
    denoiser = METHODS.get("medfpl").make(model=str(run))
    black, x = torch.zeros(1, 1, 32, 32), image(1, 1, 32, 32)
    assert torch.equal(denoiser.denoise(black), black)
    for part, unchanged in ((1e-4, True), (1e-2, False)):
        monkeypatch.setattr("medfpl.denoisers.methods.medfpl.run_tiled", lambda net, seen, p=part, **_: p * seen)
        assert torch.equal(denoiser.denoise(x), x) == unchanged


ALL = {"field-inhomogeneity", "motion", "susceptibility"}


def with_all(folder, limit=0.1, **settings):
    """Return a denoiser with a corrector for each of ALL that is believed from ``limit`` on."""
    generator = torch.Generator().manual_seed(0)
    shape = DRUNetConfig(width=4, blocks=1, blind=True, context=True)
    nets = [build_drunet(shape, generator) for _ in range(4)]
    correctors = [(CorrectorConfig(shape, n, limit, limit), p) for n, p in zip(sorted(ALL), nets[1:], strict=True)]
    whole = with_correctors(build_experts(nets[:1], [["gaussian"]], 4, generator), correctors)
    save_net(whole, folder, {"name": "tiny", "role": "denoiser", "summary": "a test"})
    return METHODS.get("medfpl").make(model=str(folder), **settings)


@pytest.mark.parametrize(
    ("correct", "kind", "asked"),
    [
        ("auto", None, ALL),
        ("auto", "mr", {"motion"}),  # the others on request alone
        ("auto", "ct", set()),
        ("all", "mr", ALL),
        ("all", "ct", ALL),
        ("none", None, set()),
        ("none", "mr", set()),
    ],
)
def test_which_correctors_are_asked(tmp_path, monkeypatch, correct, kind, asked):
    denoiser = with_all(tmp_path / "run", correct=correct)
    seen = []

    def note(self, net, x):
        seen.append(net)
        return torch.zeros_like(x)

    monkeypatch.setattr(NetworkDenoiser, "_run", note)
    denoiser.restore(image(1, 1, 16, 16), kind)
    own = zip(denoiser.net.correctors, denoiser.net.config.correctors, strict=True)
    assert {config.noise for net, config in own if net in seen} == asked


@pytest.mark.parametrize(("kind", "expert"), [("ct", 0), ("mr", 1), ("xray", 1), (None, 1)])
def test_in_a_ct_no_faint_noise_is_that_of_magnitude_images(tmp_path, monkeypatch, kind, expert):
    generator = torch.Generator().manual_seed(0)
    shape = DRUNetConfig(width=4, blocks=1, blind=True, context=True)
    nets = [build_drunet(shape, generator) for _ in range(2)]
    whole = build_experts(nets, [["gaussian"], ["rician"]], 4, generator)
    torch.nn.init.zeros_(whole.router.head[2].weight)
    whole.router.head[2].bias.data = torch.tensor([-9.0, 9.0])  # sure that it is magnitude noise
    save_net(whole, tmp_path / "run", {"name": "tiny", "role": "denoiser", "summary": "a test"})
    denoiser = METHODS.get("medfpl").make(model=str(tmp_path / "run"))
    found = [0.003 * torch.randn(1, 1, 32, 32, generator=generator) for _ in nets]
    monkeypatch.setattr(NetworkDenoiser, "_run", lambda self, net, seen: found[list(self.net.experts).index(net)])
    x = image(1, 1, 32, 32)
    taken = x - denoiser.restore(x, kind).result
    assert [float(torch.corrcoef(torch.stack([taken.flatten(), f.flatten()]))[0, 1]) > 0.9 for f in found] == [
        k == expert for k in range(2)
    ]


def test_what_was_corrected_is_told_if_it_was_believed_and_taken(tmp_path, monkeypatch):
    denoiser = with_all(tmp_path / "run", limit=1e-5)
    x = image(3, 1, 16, 16)
    # Nothing; what is believed, but all in all too little to take; much.
    share = torch.tensor([0.0, 0.3 * MEAN_CHANGE[0], 0.3]).view(3, 1, 1, 1)
    motion = denoiser.net.correctors[1]
    artifact = share * x

    def run(self, net, seen):
        first = net is motion and torch.equal(seen, x)  # and nothing more when it is undone
        return artifact if first else torch.zeros_like(seen)

    monkeypatch.setattr(NetworkDenoiser, "_run", run)
    done = denoiser.restore(x, "mr")
    assert done.corrected == [set(), set(), {"motion"}]
    torch.testing.assert_close(done.result, x * torch.tensor([1, 1, 0.7]).view(3, 1, 1, 1))
    assert denoiser.restore(x, "ct").corrected == [set()] * 3


def test_a_network_without_correctors_corrects_nothing(run):
    assert METHODS.get("medfpl").make(model=str(run)).restore(image(2, 1, 16, 16)).corrected == [set(), set()]


def test_a_choice_of_correctors_that_is_none_is_told(run):
    with pytest.raises(UsageError, match="correct=some is not allowed"):
        METHODS.get("medfpl").make(model=str(run), correct="some")
