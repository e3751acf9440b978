"""The model card of a trained network: what it learned from, what it reached, where it must not be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

from medfpl.manifest import versions
from medfpl.noises import NOISES
from medfpl.store.store import Store
from medfpl.training.config import RunConfig, TrainConfig
from medfpl.training.loop import Result
from medfpl.training.planting import FEATURES

LIMITS = (
    "Not a medical device: no clinical use, no diagnosis.",
    "Metrics are of few held-out images with simulated noise; the best weights were chosen by them.",
    "Noise in the training images themselves was taken for signal.",
)


def describe_model(
    run: RunConfig, config: TrainConfig, store: Store, result: Result, *, name: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of a ModelCard that ``nets.weights.save_net`` does not compute; no path is among them."""
    restoring, prior = config.stage == "restoration", config.stage == "prior"
    name = run.card.name or name
    noises = (
        ["gaussian"]
        if prior
        else []
        if restoring
        else [NOISES.resolve(n) for n in config.data.noises] or NOISES.names()
    )
    train = store.of("train")
    kinds = sorted({i.kind for i in train})
    return {
        "name": name if config.stage == "denoiser" else f"{name}-{config.stage}",
        "role": config.stage,
        "summary": run.card.summary or _summary(config, noises),
        "kinds": kinds,
        "noises": noises,
        "metrics": {kind: _rounded(table) for kind, table in result.scores.by_kind().items()},
        "training": {
            "steps": result.progress.step,
            "weights_of_step": result.best_step,
            "minutes": round(result.progress.seconds / 60, 1),
            "items": result.progress.step * config.data.batch,
            "images": {k: _count(store, k) for k in kinds},
            "store": store.fingerprint(),
            "seed": config.seed,
            **facts,
            "versions": {k: v for k, v in versions().items() if k in ("medfpl", "python", "torch", "numpy")},
            "config": _without_paths(config),
        },
        "data": run.card.data or _sources(store),
        "licence": run.card.licence,
        "limits": [*LIMITS, *_own_limits(config, kinds, noises)],
    }


def _summary(config: TrainConfig, noises: list[str]) -> str:
    if config.stage == "restoration":
        finds = f", which also finds {', '.join(FEATURES)} that were planted" if config.features else ""
        return f"Restoration U-Net{finds}: the network whose features the denoiser is to preserve"
    if config.stage == "prior":
        return f"Prior for DPIR: DRUNet for white noise of a known level up to {config.prior.max_level:g} of the range"
    what = f"Specialist for {', '.join(noises)}" if len(noises) < 4 else f"Blind to which of {len(noises)} noises"
    return f"{what}; residual U-Net, {'with' if config.fpl.weight else 'without'} the feature preserving loss"


def _count(store: Store, kind: str) -> dict[str, int]:
    items = [i for i in store.of("train") if i.kind == kind]
    return {"patients": len({i.patient for i in items}), "slices": sum(i.slices for i in items)}


def _own_limits(config: TrainConfig, kinds: Sequence[str], noises: Sequence[str]) -> list[str]:
    limits = [f"Trained on {', '.join(kinds)} alone, in crops of {config.data.patch} pixels."]
    if 0 < len(noises) < len(NOISES.names()):
        limits.append(f"Knows {', '.join(noises)} alone.")
    return limits


def _sources(store: Store) -> list[dict[str, str]]:
    """Return the data sources that the store's settings name, if they do."""
    given = store.settings.get("data", [])
    return [{str(k): str(v) for k, v in s.items()} for s in given if isinstance(s, dict)] if given else []


def _without_paths(config: TrainConfig) -> dict[str, Any]:
    plain = config.model_dump()
    # The facts name the explained network and the one it began from by their cards.
    plain["fpl"].pop("network")
    plain.pop("init")
    return plain


def _rounded(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {noise: {k: round(v, 4) for k, v in row.items()} for noise, row in table.items()}
