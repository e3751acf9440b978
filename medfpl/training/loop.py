"""The one training loop: restoration network, denoiser and prior, on a CPU, a GPU or many."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from medfpl.errors import MedfplError
from medfpl.explain.loss import FeaturePreservingLoss
from medfpl.nets.experts import Experts
from medfpl.noises import NOISES
from medfpl.store.store import Store
from medfpl.training.checkpoint import Progress, check_same, load_checkpoint, restore, save_checkpoint, write_state
from medfpl.training.config import TrainConfig
from medfpl.training.data import TrainingBatches
from medfpl.training.interrupts import Interrupts
from medfpl.training.loader import load_batches
from medfpl.training.networks import build_network, explained_loss, fingerprint, followed
from medfpl.training.step import COLUMNS, Step
from medfpl.training.validate import Scores, Table, build_validation, validate

if TYPE_CHECKING:
    from medfpl.nets.architectures import Net

NO_LIMIT = 1 << 40
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Result:
    """What a training left: the averaged network and its scores where they were best, and how far it came."""

    net: "Net"
    progress: Progress
    scores: Scores
    best_step: int

    @property
    def table(self) -> Table:
        """The validation table of the network."""
        return self.scores.table()


def rate_at(config: TrainConfig, progress: Progress) -> float:
    """Return the learning rate: linear warm-up, constant, then a half cosine to 0 over the last ``decay`` share."""
    shares = [progress.step / config.steps] if config.steps else []
    shares += [progress.seconds / (60 * config.minutes)] if config.minutes else []
    done = min(max(shares, default=0.0), 1.0)
    warm = min(1.0, (progress.step + 1) / max(1, config.warmup))
    start = 1 - config.decay
    fall = 1.0 if done <= start else 0.5 * (1 + math.cos(math.pi * (done - start) / max(config.decay, 1e-9)))
    return config.learning_rate * warm * fall


def train(
    fabric: Fabric,
    store: Store,
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Report,
    explained: nn.Module | None = None,
    begin: nn.Module | None = None,
    correctors: Experts | None = None,
) -> Result:
    """Train one network and return it with averaged weights, as good as it ever was on the held-out patients.

    ``explained`` is the network whose features the denoiser is to preserve, where ``config.fpl.weight`` is not 0. It
    is copied and frozen. ``begin`` holds the weights to begin from (none: random ones). Those of the ``correctors``
    that undo a noise of the training follow the denoiser in the result and its scores. ``folder`` (shared by all
    processes) gets ``STAGE.ckpt``, the last checkpoint, and ``STAGE.best.ckpt``. ``report`` is called on the first
    process with one flat row every ``log_every`` steps ("event": "step") and one a validation. Ctrl-C and SIGTERM
    finish the step, save, and raise KeyboardInterrupt; ``resume`` then goes on to the same weights as a training
    that was never stopped.

    Raises:
        MedfplError: if a loss is not finite, memory runs out, a checkpoint cannot be written, or a resumed
            training's settings, images or explained network are not those it began with.
    """
    if config.steps is None and config.minutes is None:
        raise MedfplError("a run needs a budget", "give --steps or --minutes")
    try:
        loop = _Loop(fabric, store, config, folder, report, explained, begin, correctors)
        if resume and loop.last.is_file():
            loop.go_on(load_checkpoint(loop.last))
        return loop.run()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory() from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # so the CPU allocator says it
            raise
        raise _out_of_memory() from error


def _out_of_memory() -> MedfplError:
    return MedfplError(
        "out of memory", "raise accumulate, lower data.batch, data.patch or net.width, or --precision bf16"
    )


class _Loop:
    def __init__(
        self,
        fabric: Fabric,
        store: Store,
        config: TrainConfig,
        folder: Path,
        report: Report,
        explained: nn.Module | None,
        begin: nn.Module | None = None,
        correctors: Experts | None = None,
    ) -> None:
        self.fabric, self.config, self.report = fabric, config, report
        self.last, self.best = folder / f"{config.stage}.ckpt", folder / f"{config.stage}.best.ckpt"
        restoring, prior = config.stage == "restoration", config.stage == "prior"
        self.batches = TrainingBatches(
            store,
            config.data,
            config.seed,
            config.steps or NO_LIMIT,
            rank=fabric.global_rank,
            world=fabric.world_size,
            parts=config.accumulate,
            corrupted=not restoring or config.features > 0,
            white_level=config.prior.max_level if prior else None,
        )
        self.held_out = build_validation(store, config.data, config.validation_images, config.seed, stage=config.stage)
        self.inputs = {"store": store.fingerprint()}
        feature = self._feature(explained) if config.stage == "denoiser" and config.fpl.weight else None
        self.network = build_network(config, begin)
        if begin is not None:
            self.inputs["beginning"] = fingerprint(begin)
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=config.weight_decay)
        net, self.optimizer = fabric.setup(self.network, optimizer)
        noises = [NOISES.resolve(n) for n in config.data.noises] or NOISES.names()
        self.whole = followed(self.ema, noises, correctors if config.stage == "denoiser" else None)
        self.whole.to(fabric.device)
        self.step = Step(fabric, net, self.network, self.ema, self.optimizer, config, feature)
        self.progress = Progress()
        self.rows: list[Tensor] = []
        self.scores: Scores | None = None

    def _feature(self, explained: nn.Module | None) -> FeaturePreservingLoss:
        if explained is None:
            raise MedfplError(
                "the feature preserving loss needs a network to explain", "train --stage all, or set fpl.network"
            )
        self.inputs["explained network"] = fingerprint(explained)
        clean = self.held_out.images["clean"][0].to(self.fabric.device)
        return explained_loss(self.config.fpl, explained, clean)

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint left."""
        check_same(state, self.config, self.inputs)
        self.progress = restore(state, self.network, self.ema, self.optimizer)
        if state.get("precision"):
            self.fabric.strategy.precision.load_state_dict(state["precision"])

    def run(self) -> Result:
        """Train until the budget is spent."""
        config, progress, alone = self.config, self.progress, self.fabric.world_size == 1
        device = self.fabric.device
        self.began = self.window = time.perf_counter()
        self.before, self.counted = progress.seconds, progress.step
        batches = load_batches(self.batches, progress.step, workers=config.data.workers, pin=device.type == "cuda")
        with closing(batches), Interrupts() as self.interrupts:
            try:
                # Many processes must stop at the same step: they agree on it in flush().
                with nullcontext() if alone else self.interrupts.held():
                    while True:
                        if progress.step % config.validate_every == 0 and progress.validated < progress.step:
                            self.validate()
                        if self.over():
                            break
                        batch = next(batches)
                        with self.interrupts.held():
                            self.rows.append(self.step(batch, progress.step, rate_at(config, progress)))
                            progress.step += 1
                            if alone:
                                progress.seconds = self.elapsed()
                            if progress.step % config.log_every == 0:
                                self.flush()
                            if progress.step % config.save_every == 0:
                                self.save()
                    if self.scores is None or progress.validated < progress.step:
                        self.validate()
                    self.save()
            except KeyboardInterrupt:
                if self.interrupts.torn:
                    raise
                with self.interrupts.held():
                    self.save()
                    self.fabric.barrier()
                self.leave_it_to_the_first()
                raise
        return self.result()

    def elapsed(self) -> float:
        # Waiting for data and validation count: it is the user's time.
        return self.before + time.perf_counter() - self.began

    def over(self) -> bool:
        spent = self.config.minutes is not None and self.progress.seconds >= 60 * self.config.minutes
        return spent or (self.config.steps is not None and self.progress.step >= self.config.steps)

    def flush(self) -> None:
        """Read the losses since the last time off the device, check and report them, and agree on the time."""
        if not self.rows:
            return
        values = self.over_ranks(torch.stack(self.rows), "mean").tolist()
        self.rows.clear()
        progress, first = self.progress, self.progress.step - len(values)
        self._check_finite(values, first)
        if self.fabric.world_size > 1:
            mine = [self.elapsed() if self.fabric.is_global_zero else 0.0, self.interrupts.asked]
            told = torch.tensor(mine, dtype=torch.float64, device=self.fabric.device)
            progress.seconds, asked = self.over_ranks(told, "sum").tolist()
        now = time.perf_counter()
        speed = (progress.step - self.counted) * self.config.data.batch / max(now - self.window, 1e-9)
        self.window, self.counted = now, progress.step
        if self.fabric.is_global_zero:
            means = {name: _mean(column) for name, column in zip(COLUMNS, zip(*values, strict=True), strict=True)}
            known = {name: value for name, value in means.items() if value is not None}
            rate = rate_at(self.config, Progress(progress.step - 1, progress.seconds))
            row = {"step": progress.step, "seconds": progress.seconds, **known, "rate": rate, "images_per_s": speed}
            self.report({"event": "step", **row})
        if self.fabric.world_size > 1 and asked:
            self.interrupts.stop()

    def _check_finite(self, values: list[list[float]], first: int) -> None:
        # A scaler for half precision meets infinite gradients as a matter of course, and skips those steps.
        scaled = bool(self.fabric.strategy.precision.state_dict())
        for step, row in enumerate(values, start=first + 1):
            named = dict(zip(COLUMNS, row, strict=True))
            if math.isfinite(named["loss"]) and (scaled or math.isfinite(named["gradient"])):
                continue
            what = "gradient" if math.isfinite(named["loss"]) else "loss"
            self.leave_it_to_the_first()
            raise MedfplError(
                f"the {what} is not finite at step {step}", "lower learning_rate or clip; the last checkpoint is kept"
            )

    def validate(self) -> None:
        """Measure the averaged network on the held-out patients, and keep it if it was never better."""
        self.flush()
        fabric, progress = self.fabric, self.progress
        self.scores = self.measured(self.ema)
        table = self.scores.table()
        with self.interrupts.held():
            progress.validated = progress.step
            # A network that finds features is not chosen by how well it restores.
            better = table["mean"]["psnr"] > progress.best or self.config.features > 0
            progress.best = max(progress.best, table["mean"]["psnr"])
            if not fabric.is_global_zero:
                return
            if better:
                scores = {"values": self.scores.values, "noises": [*self.scores.noises], "kinds": [*self.scores.kinds]}
                write_state(self.best, {"ema": self.ema.state_dict(), "step": progress.step, "scores": scores})
            kinds = self.scores.by_kind()
            row = {"step": progress.step, "seconds": progress.seconds, "best": better, "table": table, "kinds": kinds}
            self.report({"event": "validation", **row})

    def measured(self, net: "Net") -> Scores:
        """Return how good ``net`` is on the held-out patients; all processes take part."""
        return validate(
            net,
            self.held_out,
            self.fabric.device,
            residual=self.config.stage == "denoiser",
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            sum_over_ranks=lambda x: self.over_ranks(x, "sum").cpu(),
        )

    def leave_it_to_the_first(self) -> None:
        """End every process but the first, which tells what all of them met, and whose exit code counts."""
        if not self.fabric.is_global_zero:
            raise SystemExit(0)  # Fabric kills the first process when another one fails

    def over_ranks(self, x: Tensor, operation: str) -> Tensor:
        """Return the mean or sum of ``x`` over all processes."""
        if self.fabric.world_size == 1:
            return x
        reduced = self.fabric.all_reduce(x.to(self.fabric.device), reduce_op=operation)
        assert isinstance(reduced, Tensor)
        return reduced

    def save(self) -> None:
        """Write the last checkpoint; never weights whose losses were not looked at."""
        self.flush()
        if self.fabric.is_global_zero:
            more = {"inputs": self.inputs, "precision": self.fabric.strategy.precision.state_dict()}
            plain = self.config.model_dump()
            save_checkpoint(self.last, self.network, self.ema, self.optimizer, self.progress, plain, **more)

    def result(self) -> Result:
        """Return the best network, on every process, with the correctors that follow it."""
        assert self.scores is not None
        self.fabric.barrier()
        scores, step = self.scores, self.progress.step
        if self.best.is_file():
            state = load_checkpoint(self.best)
            self.ema.load_state_dict(state["ema"])
            kept, step = state["scores"], state["step"]
            scores = Scores(kept["values"], tuple(kept["noises"]), tuple(kept["kinds"]))
        if self.whole is not self.ema:  # correctors take as long as the denoiser: they are measured once
            scores = self.measured(self.whole)
        return Result(self.whole, self.progress, scores, step)


def _mean(column: tuple[float, ...]) -> float | None:
    measured = [value for value in column if not math.isnan(value)]
    return sum(measured) / len(measured) if measured else None
