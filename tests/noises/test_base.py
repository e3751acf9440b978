"""The shared part of all noises: settings, records, fields and modes."""

from typing import Any

import pytest
import torch
from noise_checks import CT, MR, phantom
from torch import Tensor

from medfpl.errors import MedfplError, UsageError
from medfpl.noises import NOISES, Context, Noise, Parameter, Record, corrupt, replay
from medfpl.noises.base import by_mode, fields, settings_for


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in seeds]


def test_parameters_check_their_range_and_type() -> None:
    assert Parameter("px", "a length", 0, 5).check("length", "2.5") == 2.5
    whole = Parameter("", "a number of coils", 1, 64, integer=True)
    assert whole.check("coils", 4.0) == 4
    assert isinstance(whole.check("coils", "4"), int)
    choice = Parameter("", "an axis", choices=("rows", "columns"))
    assert choice.check("axis", "rows") == "rows"
    for parameter, bad, message in [
        (Parameter("px", "a length", 0, 5), 5.1, "outside 0 to 5 px"),
        (Parameter("px", "a length", 0, 5), float("nan"), "outside"),
        (Parameter("px", "a length", 0, 5), "long", "needs a number"),
        (Parameter("px", "a length", 0, 5), None, "needs a number"),
        (whole, 2.5, "whole number"),
        (whole, 0, "outside 1 to 64"),
        (choice, "diagonal", "not allowed"),
    ]:
        with pytest.raises(UsageError, match=message):
            parameter.check("value", bad)


def test_settings_are_those_of_the_strength_overridden_by_name() -> None:
    noise = NOISES.get("noncentral-chi")
    assert settings_for(noise, None, {}, MR) == ("default", {"sigma": 0.12, "coils": 4})
    assert settings_for(noise, 1, {"coils": 2}, MR) == ("default", {"sigma": 0.24, "coils": 2})


@pytest.mark.parametrize(
    ("strength", "given", "message"),
    [
        (0.5, {"mode": "loud"}, "no mode 'loud'"),
        (0.5, {"sigmaa": 1}, "no parameter 'sigmaa'"),
        (0.5, {"photons": 9, "mode": "ct"}, "does not use 'photons'"),
        (0.5, {"photons": -1}, "outside"),
        (1.01, {}, "outside 0 to 1"),
        (-0.1, {}, "outside 0 to 1"),
        (float("nan"), {}, "outside 0 to 1"),
    ],
)
def test_settings_refuse(strength: float, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_for(NOISES.get("poisson"), strength, given, MR)


def test_lists_must_be_one_an_item() -> None:
    x, noise = phantom(16, 16, items=2), NOISES.get("gaussian")
    for kwargs in ({"seeds": [1]}, {"seeds": [1, 2], "strength": [0.1]}, {"seeds": [1, 2], "contexts": [MR]}):
        with pytest.raises(UsageError, match="2 items need 2"):
            corrupt(x, noise, **kwargs)


def test_a_mode_alone_leaves_the_strength_in_charge() -> None:
    x, noise = phantom(16, 16), NOISES.get("speckle")
    y, (record,) = corrupt(x, noise, seeds=[1], strength=0.0, given={"mode": "gamma"})
    assert torch.equal(x, y)
    assert record.strength == 0
    _, (record,) = corrupt(x, noise, seeds=[1], strength=0.3, given={"mode": "gamma", "sigma": 0.2})
    assert record.strength is None
    assert record.values["sigma"] == 0.2


def test_fields_are_those_of_torch_one_generator_an_item() -> None:
    like = torch.zeros(1)
    both = fields(generators(1, 2), (1, 8, 9), like)
    assert torch.equal(both[1], torch.randn(1, 8, 9, generator=generators(2)[0]))
    uniform = fields(generators(1), (4, 4), torch.zeros(1, dtype=torch.float64), "uniform")
    assert uniform.dtype == torch.float64
    assert torch.equal(uniform[0], torch.rand(4, 4, generator=generators(1)[0], dtype=torch.float64))


def test_each_item_goes_to_the_model_of_its_mode() -> None:
    def times(factor: float) -> Any:
        def model(x: Tensor, values: Any, generators: Any, contexts: Any) -> Tensor:
            assert len(x) == len(values) == len(generators) == len(contexts)
            return x * factor + torch.tensor([v["add"] for v in values]).view(-1, 1, 1, 1)

        return model

    apply = by_mode({"double": times(2), "triple": times(3)})
    values = [{"mode": m, "add": i} for i, m in enumerate(["triple", "double", "triple"])]
    y = apply(torch.ones(3, 1, 1, 1), values, generators(1, 2, 3), [MR] * 3)
    assert y.flatten().tolist() == [3, 3, 5]


def test_only_the_modes_that_need_it_are_clamped() -> None:
    x = torch.full((2, 1, 8, 8), -0.5)
    noise = NOISES.get("rayleigh")
    air = corrupt(x[:1], noise, seeds=[1], given={"mode": "air"})[1][0]
    added = corrupt(x[1:], noise, seeds=[2], given={"mode": "additive"})[1][0]
    assert (air.clamped, added.clamped) == (True, False)
    y = replay(x, noise, [air, added])
    assert float(y[0].min()) >= 0
    assert float(y[1].min()) < 0


def test_surrogates_by_modality_and_by_mode() -> None:
    noise = NOISES.get("rician")
    assert [noise.surrogate("default", k) for k in ("mr", "other", "ct", "xray")] == [False, False, True, True]
    assert [NOISES.get("poisson").surrogate("ct", k) for k in ("ct", "other")] == [False, True]


@pytest.mark.parametrize("data", [{}, {"noise": "gaussian"}, {"context": 3}, {"context": {"kind": "ct"}, "extra": 1}])
def test_a_broken_record_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(MedfplError, match="not a noise record"):
        Record.from_json(data)


def test_a_record_names_what_made_it() -> None:
    _, (record,) = corrupt(phantom(16, 16), NOISES.get("rician"), seeds=[7], strength=0.4, contexts=[CT])
    assert (record.noise, record.seed, record.strength, record.surrogate) == ("rician", 7, 0.4, True)
    assert record.values == {"mode": "default", "sigma": pytest.approx(0.08)}
    assert record.context == CT
    assert record.torch_version == torch.__version__


def test_autocast_does_not_lower_the_precision() -> None:
    x, noise = phantom(32, 32), NOISES.get("poisson")
    expected, _ = corrupt(x, noise, seeds=[1], given={"mode": "ct-texture"}, contexts=[CT])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = corrupt(x, noise, seeds=[1], given={"mode": "ct-texture"}, contexts=[CT])
    assert torch.equal(y, expected)


def test_a_noise_is_one_value() -> None:
    assert all(isinstance(noise, Noise) for noise in NOISES)
    assert NOISES.get("impulse") is NOISES.get("salt-pepper")
    assert NOISES.get("poisson").mode_for("ct") == "detector"
    assert Context().kind == "other"


def test_a_ct_takes_its_noise_in_hu():
    ct = Context("ct", -1000.0, 1000.0, 0.8)
    x = torch.zeros(1, 1, 64, 64)
    y, (record,) = corrupt(x, NOISES.get("gaussian"), seeds=[1], given={"sigma": "25HU"}, contexts=[ct])
    assert record.values["sigma"] == 25 / 2000
    assert float(y.std()) == pytest.approx(25 / 2000, rel=0.05)
    with pytest.raises(UsageError, match="only a CT"):
        corrupt(x, NOISES.get("gaussian"), seeds=[1], given={"sigma": "25HU"})
    with pytest.raises(UsageError, match="not in HU"):
        corrupt(x, NOISES.get("poisson"), seeds=[1], given={"photons": "25HU"}, contexts=[ct])
    with pytest.raises(UsageError, match="needs a number"):
        corrupt(x, NOISES.get("gaussian"), seeds=[1], given={"sigma": "muchHU"}, contexts=[ct])
