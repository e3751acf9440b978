import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfpl.errors import UsageError
from medfpl.training.config import RunConfig, TrainConfig, load_config, read_config
from medfpl.training.toml import parse_value, to_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.floats(1e-9, 1e9),
    st.none() | st.integers(1, 10**9),
    st.booleans(),
    TEXT.filter(lambda t: "." not in t),
    st.lists(st.dictionaries(TEXT, TEXT, max_size=3), max_size=3),
)
def test_a_written_configuration_reads_back_as_the_same(rate, steps, physical, summary, data):
    changes = {
        "learning_rate": rate,
        "steps": steps,
        "data.mixture": "physical" if physical else "flat",
        "data.noises": ["gaussian", "salt-pepper"],
        "data.noise_weights.salt-pepper": 2.5,
        "card.summary": summary,
        "card.data": data,
    }
    config = read_config(None, None, {k: v for k, v in changes.items() if v is not None})
    assert RunConfig(**tomllib.loads(to_toml(config))) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("mse", "mse"),
        ('["a"]', ["a"]),
        ("a # b", "a # b"),
        ("1\nx = 2", "1\nx = 2"),
    ],
)
def test_values_from_the_command_line(text, value):
    assert parse_value(text) == value


def test_a_table_that_sets_one_thing_leaves_the_rest_at_its_own_defaults():
    config = read_config(None, None, {"fpl.gate": "smooth", "restoration.net.depth": 2})
    assert config.fpl.weight == RunConfig().fpl.weight > 0
    assert config.restoration.net.norm == RunConfig().restoration.net.norm != config.net.norm


def test_the_stages_share_the_budget():
    config = read_config(None, None, {"steps": 100, "minutes": 10, "restoration.share": 0.3, "net.width": 8})
    first, second = config.for_stage("restoration"), config.for_stage("denoiser")
    assert config.stages() == ("restoration", "denoiser")
    assert (first.steps, second.steps) == (30, 70)
    assert (first.minutes, second.minutes) == (pytest.approx(3), pytest.approx(7))
    assert (first.net.width, second.net.width) == (16, 8)
    assert (first.fpl.weight, second.fpl.weight) == (0, config.fpl.weight)


@pytest.mark.parametrize("changes", [{"fpl.weight": 0}, {"fpl.network": "other"}, {"stage": "denoiser"}])
def test_no_restoration_network_is_trained_that_nothing_explains(changes):
    config = read_config(None, None, {"steps": 100, **changes})
    assert config.stages() == ("denoiser",)
    assert config.for_stage("denoiser").steps == 100


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"net.widht": 4}, "net.widht: there is no such setting"),
        ({"data.batch": 0}, "data.batch"),
        ({"loss": "l7"}, "loss"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"data.kind_weights": {"pet": 1.0}}, "data.kind_weights"),
        ({"data.noises": ["gausian"]}, "no noise is called 'gausian'"),
        ({"data.noise_weights.gausian": 2}, "no noise is called 'gausian'"),
    ],
)
def test_a_wrong_setting_is_one_line(changes, reason):
    with pytest.raises(UsageError, match=reason) as error:
        read_config(None, None, changes)
    assert "\n" not in error.value.message


def test_configuration_files(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("seed = 5\n[net]\nwidth = 24\n")
    config = load_config(path, {"net.depth": 2})
    assert (config.seed, config.net.width, config.net.depth) == (5, 24, 2)
    with pytest.raises(UsageError, match="seed has no settings of its own"):
        load_config(path, {"seed.x": 2})
    path.write_text("seed = = 5")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(path)
    with pytest.raises(UsageError, match="does not exist"):
        load_config(tmp_path / "absent.toml")


def test_a_runs_own_configuration_is_its_default(tmp_path):
    (tmp_path / "config.toml").write_text("steps = 7\n")
    assert read_config(tmp_path, None, {}).steps == 7
    (tmp_path / "other.toml").write_text("seed = 3\n")
    assert read_config(tmp_path, tmp_path / "other.toml", {}) == RunConfig(seed=3)
    assert read_config(tmp_path, RunConfig(seed=3), {"net.width": 8}).seed == 3
    assert TrainConfig().fpl.weight == 0
