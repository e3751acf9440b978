"""The configuration of a training run: checked, written beside the weights, read from TOML."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medfpl.errors import UsageError
from medfpl.noises import NOISES
from medfpl.scan import Kind

CONFIG = "config.toml"  # in a run's folder
Stage = Literal["restoration", "denoiser", "prior"]
# What a network sees that learns to find features: through noise, and not in noise.
FINDING = {
    "plant": 1.0,
    "noises": ["gaussian", "poisson", "rician", "speckle"],
    "mixture": "flat",
    "clean": 0.25,
    "pair": 0.0,
    "copies": 1,
}
# What "all" trains, in order.
STAGES: tuple[Stage, ...] = ("restoration", "denoiser")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetConfig(_Part):
    """The U-Net (nets.unet.UNetConfig), the DRUNet that is blind (nets.drunet), or one of the other nets."""

    type: Literal["unet", "drunet", "shading", "field", "unfold", "experts"] = Field(
        default="drunet",
        description="residual blocks; the paper's: unet; of one artifact: shading, field, unfold; of runs: experts",
    )
    experts: list[str] = Field(default=[], description="of experts: models or runs, each one's noises its family")
    router: int = Field(default=16, ge=4, le=256, description="of experts: the router's width")
    route: Literal["noise", "error"] = Field(
        default="noise", description="of experts: what the router learns: which noise it is, or which mean errs least"
    )
    certain: float = Field(
        default=0.9, ge=0, le=1, description="of experts: share from which one for artifacts, not for noise, is asked"
    )
    correctors: str = Field(
        default="auto",
        description="of a drunet: model whose correctors for artifacts are asked behind it; auto: if it learns all "
        "noises, the default model; none",
    )
    width: int = Field(default=16, ge=4, le=256, description="channels at the first level; the paper's: 64")
    blocks: int = Field(default=2, ge=1, le=16, description="of a drunet: residual blocks a level")
    context: bool = Field(default=True, description="of a drunet: sees rows, columns and noise of the whole image")
    depth: int = Field(default=4, ge=1, le=6, description="of all but drunet: halvings of the image")
    unshuffle: Literal[1, 2, 4] = Field(
        default=2, description="of a unet: pixels squared folded into channels; the paper's: 1"
    )
    norm: Literal["batch", "none"] = Field(default="none", description="of a unet; the paper's: batch")
    skips: int | None = Field(
        default=None, ge=0, le=6, description="of a unet: levels that keep their skip, from the deepest"
    )

    def unet(self) -> dict[str, Any]:
        """Return what a UNetConfig takes."""
        other = {"type", "blocks", "context", "experts", "router", "route", "certain", "correctors"}
        return self.model_dump(exclude=other)


class DataConfig(_Part):
    """How training images are drawn from the store and corrupted."""

    frame: int = Field(default=320, ge=32, description="side of the square that is corrupted, in pixels")
    patch: int = Field(default=192, ge=16, description="side of the crop the network sees, in pixels")
    batch: int = Field(default=8, ge=1, description="items a step, over all devices")
    copies: int = Field(default=1, ge=1, description="corruptions of each clean patch in a batch")
    whole: float = Field(default=0.5, ge=0, le=1, description="share of images fitted whole into the frame")
    kind_weights: dict[Kind, Annotated[float, Field(ge=0)]] = {"ct": 2.0, "xray": 1.0, "mr": 1.0, "other": 0.5}
    max_noise_hu: float = Field(default=12.0, gt=0, description="CT noisier than this is no target")
    noises: list[str] = Field(default=[], description="names; none: all")
    mixture: Literal["flat", "physical"] = Field(default="flat", description="physical: more of what a kind suffers")
    noise_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    plant: float = Field(default=0.0, ge=0, le=1, description="share of images with planted lesions, vessels, edges")
    odd: float = Field(default=0.0, ge=0, le=1, description="share of images made unlike any of the store")
    clean: float = Field(default=0.08, ge=0, le=1, description="share of items left uncorrupted")
    even: float = Field(default=0.0, ge=0, le=1, description="share whose strength is uniform, not log-uniform")
    pair: float = Field(default=0.15, ge=0, le=1, description="share of items with a second noise")
    default_mode: float = Field(default=0.7, ge=0, le=1, description="share in a noise's usual mode, not another")
    pool: int = Field(
        default=0, ge=0, description="items drawn once, kept in each worker's memory, used again; 0: none"
    )
    workers: int = Field(default=1, ge=0, le=256, description="processes a device that prepare batches")
    cache_mb: int = Field(default=1024, ge=0, description="decoded slices each of them keeps, in MB")


class FplConfig(_Part):
    """The feature preserving loss: its weight, the network it explains and how (explain.guided.Rules)."""

    weight: float = Field(default=0.0, ge=0, description="of the feature preserving loss; 0: none")
    network: str = Field(default="", description="the explained network's run or name; none: this run's own")
    scalar: Literal["auto", "energy", "sum", "evidence"] = Field(
        default="auto", description="of its output; auto: evidence where it finds features, else energy"
    )
    layer: str = Field(default="auto", description="where the map is taken; image: at the input, as published")
    gate: Literal["relu", "smooth"] = Field(default="relu", description="smooth: softplus for each ReLU")
    beta: float = Field(default=20.0, gt=0, description="sharpness of the smooth gate")
    norms_every: int = Field(default=100, ge=0, description="steps between measurements of both gradients; 0: never")


class RunFplConfig(FplConfig):
    """The same for a whole run, where the loss is on unless it is switched off."""

    weight: float = Field(default=0.1, ge=0, description="of the feature preserving loss; 0: none")


class SmallNetConfig(NetConfig):
    """The restoration network: small, for each step of the denoiser runs it some six times."""

    type: Literal["unet"] = Field(default="unet", description="no other has guided maps")
    norm: Literal["batch", "none"] = Field(default="batch", description="folded into the convolutions once trained")


class RestorationConfig(_Part):
    """What the restoration network has of its own."""

    net: SmallNetConfig = SmallNetConfig()
    features: float = Field(
        default=0.3, ge=0, description="weight of finding planted features; 0: restoration alone, the paper's"
    )
    share: float = Field(default=0.2, gt=0, lt=1, description="of the budget, where both networks are trained")


class PriorConfig(_Part):
    """The prior of DPIR: a DRUNet (nets.drunet.DRUNetConfig) for white noise, whose level it is told."""

    width: int = Field(default=16, ge=4, le=256, description="channels at the first level; the published: 64")
    blocks: int = Field(default=2, ge=1, le=16, description="residual blocks a level; the published: 4")
    max_level: float = Field(default=0.25, gt=0, le=1, description="strongest noise, working units; published: 50/255")


class CardConfig(_Part):
    """What the model card says that the run cannot know."""

    name: str = Field(default="", max_length=80, description="none: the run folder's name")
    summary: str = ""
    licence: str = "Apache-2.0"
    data: list[dict[str, str]] = Field(default=[], description="sources: name, licence, url, ...")


class _Common(_Part):
    seed: int = Field(default=0, ge=0)
    steps: int | None = Field(default=None, ge=1, description="budget in steps, in all")
    minutes: float | None = Field(default=None, gt=0, description="budget in minutes, in all")
    loss: Literal["mse", "rmse", "l1", "root", "psnr"] = Field(default="rmse", description="mse is the paper's")
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: int = Field(default=200, ge=0, description="steps of linear warm-up")
    decay: float = Field(default=0.4, ge=0, le=1, description="last share of the budget over which the rate falls to 0")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: float = Field(default=0.999, ge=0, lt=1, description="of the averaged weights, which are the result")
    accumulate: int = Field(default=1, ge=1, description="parts a batch is computed in: less memory, the same step")
    log_every: int = Field(default=10, ge=1, description="steps between log rows")
    validate_every: int = Field(default=500, ge=1, description="steps")
    save_every: int = Field(default=200, ge=1, description="steps between checkpoints")
    validation_images: int = Field(default=8, ge=1)
    net: NetConfig = NetConfig()
    data: DataConfig = DataConfig()


class TrainConfig(_Common):
    """One network's training. A budget of ``steps`` or ``minutes`` ends it, whichever comes first."""

    stage: Stage = "denoiser"
    init: str = "none"
    features: float = 0.0
    fpl: FplConfig = FplConfig()
    prior: PriorConfig = PriorConfig()


class RunConfig(_Common):
    """A whole run: the stages it trains, one after the other, and their settings."""

    stage: Literal["all", "restoration", "denoiser", "prior"] = "all"
    init: str = Field(
        default="auto",
        description="model or run the denoiser begins from; auto: for a drunet of its shape the prior; none: random",
    )
    fpl: RunFplConfig = RunFplConfig()
    restoration: RestorationConfig = RestorationConfig()
    prior: PriorConfig = PriorConfig()
    card: CardConfig = CardConfig()

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages to train: a restoration network only where the loss explains this run's own."""
        if self.stage != "all":
            return (self.stage,)
        own = self.fpl.weight > 0 and not self.fpl.network and self.net.type != "experts"
        return STAGES if own else ("denoiser",)

    def for_stage(self, stage: Stage) -> TrainConfig:
        """Return the training of one stage, with its share of the budget."""
        restoring = stage == "restoration"
        share = 1.0
        if len(self.stages()) > 1:
            share = self.restoration.share if restoring else 1 - self.restoration.share
        shared = {name: getattr(self, name) for name in _Common.model_fields}
        finding = self.restoration.features if restoring else 0.0
        own = {
            "stage": stage,
            "init": self.init if stage == "denoiser" else "none",
            "features": finding,
            "data": self.data.model_copy(update=FINDING) if finding else self.data,
            "steps": self.steps and max(1, round(share * self.steps)),
            "minutes": self.minutes and share * self.minutes,
            "net": self.restoration.net.model_dump() if restoring else self.net,
            "fpl": self.fpl.model_dump() if stage == "denoiser" and self.net.type != "experts" else {},
            "prior": self.prior if stage == "prior" else {},
        }
        return TrainConfig(**{**shared, **own})


Model = TypeVar("Model", bound=BaseModel)


def load_config(path: Path | None = None, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """Return one network's configuration: a TOML file's (or the defaults) with ``changes`` on top (nested by dots).

    Raises:
        UsageError: for an unknown key or a value outside its range, named in one line.
    """
    return _load(TrainConfig, path, changes)


def read_config(folder: Path | None, config: str | Path | RunConfig | None, changes: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a run in ``folder``, checked as far as it can be without its images.

    Raises:
        UsageError: naming the setting that will not do.
    """
    if isinstance(config, RunConfig):
        chosen = _load(RunConfig, None, {**config.model_dump(), **changes})
    else:
        own = folder / CONFIG if folder and (folder / CONFIG).is_file() else None
        chosen = _load(RunConfig, Path(config) if config else own, changes)
    if chosen.net.type == "experts" and chosen.net.route == "error" and chosen.loss == "l1":
        raise UsageError("loss=l1 cannot train a router by its error", "take mse, rmse, root or psnr")
    for name in (*chosen.data.noises, *chosen.data.noise_weights):
        NOISES.resolve(name)
    return chosen


def _load(model: type[Model], path: Path | None, changes: Mapping[str, Any] | None) -> Model:
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise UsageError(
                "the configuration file does not exist", "medfpl train --print-config writes one"
            ) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"the configuration cannot be read: {error}") from None
    for key, value in (changes or {}).items():
        place = values
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"configuration: {key}: {parent} has no settings of its own")
        place[last] = value
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        reason = "there is no such setting" if unknown else first["msg"]
        raise UsageError(f"configuration: {where}: {reason}", "see 'medfpl train --print-config'") from None
