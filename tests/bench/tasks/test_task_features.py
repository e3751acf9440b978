import pytest
import torch
from task_trials import identity, measured, trial, white
from torch import nn

from medfpl.bench.tasks import TASKS
from medfpl.explain.guided import frozen
from medfpl.explain.loss import distance_between


def network():
    torch.manual_seed(0)
    return frozen(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)))


def test_without_a_network_there_is_no_value():
    assert measured("features", trial()) == {}


def test_the_distance_is_that_of_the_loss():
    net = network()
    made = trial(lambda x: 0.5 * x, white(0.05), features=net)
    found = measured("features", made)
    assert found["distance"][""] == pytest.approx(float(distance_between(net, made.denoised, made.clean)))
    assert found["distance_noisy"][""] == pytest.approx(float(distance_between(net, made.noisy, made.clean)))
    assert found["distance"] != found["distance_noisy"]


def test_a_perfect_result_has_the_same_features():
    of = trial()
    made = trial(lambda x: of.clean, white(0.05), features=network())
    assert measured("features", made)["distance"] == {"": 0}
    same = measured("features", trial(identity, white(0.05), features=network()))
    assert same["distance"] == same["distance_noisy"]


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_says_what_it_is(name):
    task = TASKS.get(name)
    assert task.name == name
    assert task.summary
    assert task.source
    for measure in task.measures.values():
        assert measure.meaning
        assert measure.better in ("more", "less", "ideal")
        assert measure.better != "ideal" or abs(measure.ideal) < float("inf")
