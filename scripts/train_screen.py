"""Train the screen of a model of experts: a small network that says which correctors are worth asking about an image.

    python scripts/train_screen.py STORE MODEL -o FOLDER [--items 6000] [--minutes 20] [--screen OTHER]

Images of the training patients (and odd ones), some with an artifact, half of them with random noise on top, are
denoised by the experts; the screen learns which artifact they have. Then its thresholds are set on validation
patients: a corrector is asked wherever it would be believed there about its own artifact, by a margin, and what that
saves is printed. FOLDER gets the model with its screen. With --screen that of another model is taken, and only its
thresholds are set.
"""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from evaluate_model import draw
from torch import Tensor

from medfpl.nets.experts import RANDOM, Experts, Router, with_correctors, with_screen
from medfpl.nets.weights import find_model, load_net, save_net
from medfpl.noises import NOISES, corrupt
from medfpl.noises.base import Context
from medfpl.noises.mixture import Mixture, apply_plans, plan_item
from medfpl.seeds import stable_seed, torch_generator
from medfpl.store.store import Store, open_store
from medfpl.training.config import DataConfig
from medfpl.training.data import TrainingBatches

WIDTH, BATCH, RATE = 16, 16, 1e-3
# Asked wherever it may: it looks for the end of the field of view first, which takes no time.
ALWAYS = ("wrap-around",)
SURELY = 1000.0  # a logit
# Logits: how far below the least sure finding on validation patients the threshold lies.
MARGIN = 1.0
STRENGTHS = (0.15, 0.3, 0.5, 1.0)


def main() -> None:
    """Draw, fit, set the thresholds, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("model")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--images", type=int, default=8, help="validation images a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--screen", help="model or run whose screen to take")
    given = parser.parse_args()
    model = find_model(given.model)
    net = load_net(model)
    if not (isinstance(net, Experts) and net.config.correctors):
        parser.error(f"{given.model} has no correctors")
    net = with_correctors(net, list(zip(net.config.correctors, net.correctors, strict=True)))  # without a screen
    store = open_store(given.store)
    if given.screen:
        other = load_net(find_model(given.screen))
        if not (isinstance(other, Experts) and other.screen and len(other.correctors) == len(net.correctors)):
            parser.error(f"{given.screen} has no screen for these correctors")
        screen = other.screen
    else:
        images, labels = draw_items(net, store, given.items, given.seed)
        screen = fit(net, images, labels, given.minutes, given.seed)
    set_thresholds(net, screen, store, given.images)
    made_anew = ("architecture", "file", "sha256", "bytes", "parameters")
    card = {k: v for k, v in model.card.to_json().items() if k not in made_anew}
    saved = save_net(with_screen(net, screen), given.out, card)
    print(f"{saved.card.name}: {saved.card.parameters} weights in {given.out}")


@torch.inference_mode()
def denoised(net: Experts, x: Tensor) -> Tensor:
    """Return ``x`` as the correctors see it."""
    return x - net.blend(x, lambda part, image: part(image), artifacts=False)[0]


def draw_items(net: Experts, store: Store, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return ``count`` denoised images (N, 1, 256, 256), float16, and which corrector's artifact each has, or -1."""
    artifacts = [c.noise for c in net.config.correctors]
    config = DataConfig(
        frame=256, patch=256, batch=4, noises=tuple(artifacts), clean=0.3, pair=0.0, even=0.6, plant=0.3, odd=0.35
    )
    batches = TrainingBatches(store, config, seed, math.ceil(count / config.batch))
    on_top = Mixture(names=tuple(sorted(RANDOM)), clean=0.5, pair=0.0)
    images, labels, began = [], [], time.monotonic()
    for step in range(len(batches)):
        batch = batches[step]
        seeds = [stable_seed(seed, "on top", step, i) for i in range(config.batch)]
        contexts = [Context()] * config.batch
        noisy = apply_plans(batch.noisy, [plan_item(on_top, s, Context()) for s in seeds], seeds, contexts)
        noisy = noisy.clamp(-1, 3).contiguous(memory_format=torch.channels_last)
        images.append(denoised(net, noisy).half())
        labels += [artifacts.index(name) if name in artifacts else -1 for name in batch.labels]
        if step % 50 == 0:
            print(f"{4 * step} of {count} items, {time.monotonic() - began:.0f} s", flush=True)
    return torch.cat(images), torch.tensor(labels)


def fit(net: Experts, images: Tensor, labels: Tensor, minutes: float, seed: int) -> Router:
    """Return a screen fitted to the items; it begins from what the router looks at."""
    generator = torch_generator(seed, "screen")
    count = len(net.config.correctors)
    screen = Router(WIDTH, count).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(screen, Router)
    with torch.no_grad():
        for module in (m for m in screen.head if isinstance(m, torch.nn.Linear)):
            fan = module.weight[0].numel()
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5)
            module.bias.zero_()
    if net.config.router == WIDTH:
        screen.stages.load_state_dict(net.router.stages.state_dict())
    targets = F.one_hot(labels + 1, count + 1)[:, 1:].float()
    optimizer = torch.optim.AdamW(screen.parameters(), lr=RATE, weight_decay=1e-4)
    began, step, losses = time.monotonic(), 0, []
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done))
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        x = images[chosen].float()
        flips = [dim for dim in (-2, -1) if torch.rand((), generator=generator) < 0.5]
        logits = screen(x.flip(flips).contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits, targets[chosen])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(screen.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        step += 1
        if step % 200 == 0:
            print(f"step {step}: loss {sum(losses[-200:]) / 200:.4f}, {60 * minutes * done:.0f} s", flush=True)
    return screen.eval().requires_grad_(False)


@torch.inference_mode()
def set_thresholds(net: Experts, screen: Router, store: Store, count: int) -> None:
    """Shift the screen's logits so that 0 is the threshold, and print what is asked then of validation images."""
    artifacts = [c.noise for c in net.config.correctors]
    least = torch.full((len(artifacts),), torch.inf)
    rows: list[tuple[str, str, float, Tensor, Tensor]] = []
    for kind in ("ct", "mr", "xray"):
        clean, contexts = draw(store, "val", kind, count)
        cases = [("clean", 0.0)] + [(name, s) for name in NOISES.names() for s in STRENGTHS]
        for name, s in cases:
            seeds = [stable_seed(0, "screen", name, n) for n in range(len(clean))]
            x = clean
            if name != "clean":
                x = corrupt(clean, NOISES.get(name), seeds=seeds, strength=s, contexts=contexts)[0]
            x = x.clamp(-1, 3).contiguous(memory_format=torch.channels_last)
            logits = screen(denoised(net, x))
            believed = torch.stack([b for _, b in net.blend(x, lambda part, image: part(image))[1]], 1)
            rows.append((kind, name, s, logits, believed))
            if name in artifacts:
                k = artifacts.index(name)
                needed = logits[:, k][believed[:, k] > 0]
                least[k] = torch.minimum(least[k], needed.min() if len(needed) else least[k])
    shift = torch.where(least.isfinite(), MARGIN - least, 0.0)
    shift[[name in ALWAYS for name in artifacts]] = SURELY
    last = screen.head[-1]
    assert isinstance(last, torch.nn.Linear)
    last.bias += shift
    for kind, name, s, logits, believed in rows:
        asked = logits + shift > 0
        lost = [a for a, missed in zip(artifacts, ((believed > 0) & ~asked).any(0), strict=True) if missed]
        print(f"{kind:5s} {name:20s} {s:4g}  asked {asked.float().sum(1).mean():.2f}  not, but believed: {lost}")
    every = torch.cat([row[3] for row in rows]) + shift > 0
    print("asked, of all images:", dict(zip(artifacts, every.float().mean(0).tolist(), strict=True)), flush=True)


if __name__ == "__main__":
    main()
