"""A whole run from Python, with the same results as the command line: ``medfpl.train(store, folder, steps=1000)``."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfpl.errors import MedfplError, TargetExists, UsageError
from medfpl.io.atomic import atomic_target
from medfpl.nets.experts import Experts
from medfpl.nets.weights import CARD_NAME, Model, find_model, load_net, read_model, save_net
from medfpl.store.store import Store, open_store
from medfpl.training.card import describe_model
from medfpl.training.checkpoint import check_same
from medfpl.training.config import CONFIG, RunConfig, Stage, TrainConfig, read_config
from medfpl.training.engines import Engine, build_fabric, choose_engine, end_children
from medfpl.training.log import RunLog
from medfpl.training.loop import Report
from medfpl.training.loop import train as train_one
from medfpl.training.networks import join_experts
from medfpl.training.toml import to_toml

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn


def only_warn(event: Mapping[str, Any]) -> None:
    """Turn the events that are warnings into Python's, and leave the rest."""
    if event["event"] == "warning":
        warnings.warn(event["message"], stacklevel=2)


def train(
    data: str | Path,
    folder: str | Path,
    *,
    config: str | Path | RunConfig | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    device: str = "auto",
    devices: int | None = None,
    nodes: int | None = None,
    precision: str = "auto",
    report: Report = only_warn,
    **named: Any,
) -> list[Model]:
    """Train networks on a store's images and return them as models, in the order they were trained.

    Args:
        data: the store, as ``medfpl prepare`` makes it.
        folder: gets a folder for each stage (weights and card), checkpoints, log.csv, curves.png and
            config.toml. ``medfpl denoise --model FOLDER`` uses it. Shared by all processes.
        config: a TOML file or a configuration; by default the folder's own config.toml, if there is one.
        settings: changes by dotted names, as ``{"net.width": 16, "fpl.weight": 0.02}``; ``named`` are the same for
            names without a dot, as ``steps=1000``.
        resume: go on with what the folder holds, to the same weights as a run that was never stopped.
        device: "auto", "cpu", "cuda", ...
        devices: processes on each machine, one a GPU; ``nodes`` machines. torchrun and Slurm say both themselves.
        precision: "32", "bf16", "16", or "auto".
        report: is called on the first process with flat events: "run", "warning", "stage", "step", "validation",
            "model".

    Raises:
        MedfplError: for a store, setting, device or folder that will not do, or a training that fails.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once all is saved.
    """
    folder = Path(folder)
    chosen = read_config(folder, config, {**(settings or {}), **named})
    store = open_store(Path(data))
    engine = choose_engine(device, devices=devices, nodes=nodes, precision=precision)
    if _first():
        check_folder(folder, chosen, resume=resume)
    fabric = build_fabric(engine)
    fabric.launch()
    told: Report = report if fabric.is_global_zero else lambda event: None
    try:
        return _run(fabric, engine, store, chosen, folder, resume, told)
    except UsageError:
        if not fabric.is_global_zero:
            raise SystemExit(0) from None  # all processes meet it; the first one says it
        end_children(fabric)
        raise
    except BaseException:
        end_children(fabric)
        raise


def check_folder(folder: Path, config: RunConfig, *, resume: bool) -> None:
    """Refuse a folder that holds something else, or this training already, or ``resume`` of one with other settings.

    Raises:
        TargetExists: if so.
        UsageError: if the run has no budget or begins from no model, or naming the setting that differs.
    """
    if config.steps is None and config.minutes is None:
        raise UsageError("a run needs a budget", "give --steps or --minutes")
    if "denoiser" in config.stages():
        for find in (_first_model, _corrector_model):  # not found out after the restoration network is trained
            find(config.for_stage("denoiser"))
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / CONFIG).is_file():
        raise TargetExists("the run folder holds something else", "choose another folder")
    begun = [s for s in config.stages() if (folder / f"{s}.ckpt").exists() or (folder / s / CARD_NAME).exists()]
    if begun and not resume:
        raise TargetExists(f"the run folder holds a {begun[0]} training", "go on with --resume, or choose another")
    before = read_config(folder, None, {})
    for stage in begun:
        check_same({"config": before.for_stage(stage).model_dump()}, config.for_stage(stage), {})


def advice(config: RunConfig) -> list[str]:
    """Return what a user should know of a configuration that is allowed but hardly meant."""
    found = []
    if "denoiser" in config.stages() and config.fpl.weight and (config.fpl.scalar, config.fpl.gate) == ("sum", "relu"):
        found.append(
            "fpl.scalar=sum with fpl.gate=relu has no gradient: the feature preserving loss is measured "
            "and teaches nothing (use scalar=energy or gate=smooth)"
        )
    return found


def _first() -> bool:
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    return not getattr(rank_zero_only, "rank", 0)


def _run(
    fabric: "Fabric", engine: Engine, store: Store, config: RunConfig, folder: Path, resume: bool, report: Report
) -> list[Model]:
    stages = config.stages()
    if fabric.is_global_zero:
        with atomic_target(folder / CONFIG, overwrite=True) as part:
            part.write_text(to_toml(config), "utf-8")
    report({"event": "run", "engine": engine.describe(), "stages": [*stages], "config": config.model_dump()})
    for message in advice(config):
        report({"event": "warning", "message": message})
    fabric.barrier()
    models = []
    for stage in stages:
        done = folder / stage / CARD_NAME
        if stage != stages[-1] and done.is_file():  # only a resumed run finds it, and the next one needs it as it is
            models.append(read_model(done))
            continue
        models.append(_train_stage(fabric, engine, store, config, stage, folder, resume, report))
        fabric.barrier()
    return models


def _train_stage(
    fabric: "Fabric",
    engine: Engine,
    store: Store,
    run: RunConfig,
    stage: Stage,
    folder: Path,
    resume: bool,
    report: Report,
) -> Model:
    config = run.for_stage(stage)
    facts: dict[str, Any] = {
        "device": engine.device.partition(":")[0],
        "processes": fabric.world_size,
        "precision": engine.precision,
    }
    explained = None
    if config.fpl.weight:
        model = _explained_model(config.fpl.network, folder)
        explained = load_net(model)
        facts["explained_network"] = {"name": model.card.name, "sha256": model.card.sha256}
    begin: nn.Module | None = None
    first = _first_model(config)
    if config.net.type == "experts":
        models = {name: find_model(name) for name in config.net.experts}
        known = load_net(first) if first is not None else None
        begin = join_experts(config, {name: (load_net(m), m.card.noises) for name, m in models.items()}, known)
        facts["experts"] = [{"name": m.card.name, "sha256": m.card.sha256} for m in models.values()]
    elif first is not None:
        begin = load_net(first)
    followers = _corrector_model(config)
    correctors = load_net(followers) if followers is not None else None
    if followers is not None:
        facts["correctors_of"] = {"name": followers.card.name, "sha256": followers.card.sha256}
    if first is not None:
        facts["began_from"] = {"name": first.card.name, "sha256": first.card.sha256}
    log = RunLog(folder, stage)

    def tell(event: dict[str, Any]) -> None:
        told = {"stage": stage, **event}
        log.write(told)
        report(told)

    report({"event": "stage", "stage": stage, "steps": config.steps, "minutes": config.minutes})
    try:
        result = train_one(
            fabric,
            store,
            config,
            folder,
            resume=resume,
            report=tell,
            explained=explained,
            begin=begin,
            correctors=correctors if isinstance(correctors, Experts) else None,
        )
    finally:
        if fabric.is_global_zero:
            log.draw()
        log.close()
    if fabric.is_global_zero:
        card = describe_model(run, config, store, result, name=folder.resolve().name, facts=facts)
        save_net(result.net, folder / stage, card)
        report({"event": "model", "stage": stage, "folder": str(folder / stage), "table": result.table})
    fabric.barrier()
    return read_model(folder / stage / CARD_NAME)


def _first_model(config: TrainConfig) -> Model | None:
    """Return the denoiser to begin from; a DRUNet may begin from a prior, and by itself does from the default one."""
    residual = config.net.type == "drunet"
    if config.net.type == "experts":
        if not config.net.experts:
            raise UsageError("net.experts names no expert", "give the runs or models to choose from")
        for name in config.net.experts:
            find_model(name)
        return find_model(config.init) if config.init not in ("none", "auto") else None
    if config.init == "none" or (config.init == "auto" and not residual):
        return None
    if config.init == "auto":
        prior = find_model(None, "prior")
        own = {"width": config.net.width, "blocks": config.net.blocks}
        return prior if own.items() <= prior.card.architecture.items() else None
    if residual:
        with suppress(UsageError):
            return find_model(config.init, "prior")
    return find_model(config.init)


def _corrector_model(config: TrainConfig) -> Model | None:
    """Return the model whose correctors follow the denoiser, which by itself has some if it learns all noises."""
    name = config.net.correctors
    if config.stage != "denoiser" or config.net.type != "drunet" or name == "none":
        return None
    if name == "auto" and config.data.noises:
        return None
    model = find_model(None if name == "auto" else name)
    if not model.card.architecture.get("correctors"):
        if name == "auto":  # a default model of the user's own
            return None
        raise UsageError(f"net.correctors: {model.card.name} has none", "take a model of experts, auto or none")
    return model


def _explained_model(network: str, folder: Path) -> Model:
    try:
        return find_model(network or folder / "restoration", "restoration")
    except MedfplError as error:
        raise UsageError(
            "the feature preserving loss needs a restoration network" + (f": {error.message}" if network else ""),
            "train it with --stage all, or name one with --set fpl.network=RUN",
        ) from error
