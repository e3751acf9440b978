"""The configuration of a training run: checked, written beside the weights, read from TOML."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medfpl.errors import UsageError

Stage = Literal["restoration", "denoiser"]


class NetConfig(BaseModel):
    """The U-Net (nets.unet.UNetConfig)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    width: int = Field(default=32, ge=4, le=256)
    depth: int = Field(default=4, ge=1, le=6)
    unshuffle: Literal[1, 2, 4] = 2
    norm: Literal["batch", "none"] = "none"
    skips: int | None = None


class DataConfig(BaseModel):
    """How training images are drawn from the store and corrupted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    frame: int = Field(default=320, ge=32, description="side of the square that is corrupted, in pixels")
    patch: int = Field(default=192, ge=16, description="side of the crop the network sees, in pixels")
    batch: int = Field(default=8, ge=1, description="items a step, over all devices")
    whole: float = Field(default=0.5, ge=0, le=1, description="share of images fitted whole into the frame")
    kind_weights: dict[str, float] = {"ct": 2.0, "xray": 1.0, "mr": 1.0, "other": 0.5}
    max_noise_hu: float = Field(default=12.0, gt=0, description="CT noisier than this is no target")
    noises: list[str] = []
    clean: float = Field(default=0.08, ge=0, le=1)
    pair: float = Field(default=0.15, ge=0, le=1)
    workers: int = Field(default=1, ge=0)


class TrainConfig(BaseModel):
    """One run. A budget of ``steps`` or ``minutes`` ends it, whichever comes first."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: Stage = "denoiser"
    seed: int = 0
    steps: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    loss: Literal["mse", "rmse", "l1", "psnr"] = "rmse"
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: int = Field(default=200, ge=0, description="steps of linear warm-up")
    decay: float = Field(default=0.4, ge=0, le=1, description="last share of the budget over which the rate falls to 0")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: float = Field(default=0.999, ge=0, lt=1)
    validate_every: int = Field(default=500, ge=1)
    save_every: int = Field(default=200, ge=1)
    validation_images: int = Field(default=8, ge=1)
    net: NetConfig = NetConfig()
    data: DataConfig = DataConfig()


def load_config(path: Path | None = None, changes: dict[str, Any] | None = None) -> TrainConfig:
    """Return the configuration of a TOML file (or the defaults) with ``changes`` on top (nested by dots).

    Raises:
        UsageError: for an unknown key or a value outside its range, named in one line.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"the configuration cannot be read: {error}") from None
    for key, value in (changes or {}).items():
        place = values
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    try:
        return TrainConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"configuration: {where}: {first['msg']}", "see 'medfpl train --print-config'") from None
