"""Feature distance: how far the explained network's feature map is from that of the clean image."""

from collections.abc import Sequence

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.explain.guided import Rules, rules_for
from medfpl.explain.loss import distance_between


def run(trial: Trial) -> Sequence[Value]:
    """Compare the maps of the noisy and of the denoised image with the clean one's; nothing without a network."""
    if trial.features is None:
        return []
    config = getattr(trial.features, "config", None)
    rules = rules_for(config.outputs, config.depth) if config is not None else Rules()
    images = {"distance": trial.denoised, "distance_noisy": trial.noisy}
    return [Value(name, float(distance_between(trial.features, x, trial.clean, rules))) for name, x in images.items()]


TASK = Task(
    name="features",
    summary="relative distance between the guided feature maps of denoised and clean image",
    source="Dong & Basu, arXiv 2310.20101; Springenberg et al. 2015, ICLR workshop",
    measures={
        "distance": Measure("relative L2 distance of the denoised image's feature map", "", 0.0, "less"),
        "distance_noisy": Measure("the same of the noisy image, before denoising", "", 0.0, "less"),
    },
    run=run,
)
