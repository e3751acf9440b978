"""One training step: the losses, their gradient, and the update of the weights and of their average."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from medfpl.explain.loss import FeaturePreservingLoss
from medfpl.nets.experts import Experts
from medfpl.training.config import TrainConfig
from medfpl.training.data import Batch
from medfpl.training.losses import finding_loss, residual_loss, squared_loss

# What a step returns, in this order; what was not measured is NaN.
COLUMNS = ("loss", "residual", "feature", "gradient", "residual_norm", "feature_norm")


class Step:
    """Holds what the steps of one training share."""

    def __init__(
        self,
        fabric: Fabric,
        net: Any,
        network: nn.Module,
        ema: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        feature: FeaturePreservingLoss | None,
    ) -> None:
        self._fabric, self._net, self._optimizer, self._config = fabric, net, optimizer, config
        self._feature = feature
        self._weight = config.fpl.weight if feature is not None else config.features
        self._experts = network if isinstance(network, Experts) else None
        self._products: dict[int, Tensor] = {}
        now, mean = network.state_dict(), ema.state_dict()
        floats = [k for k, v in now.items() if v.is_floating_point()]
        self._now, self._mean = [now[k] for k in floats], [mean[k] for k in floats]
        self._counts = [(mean[k], now[k]) for k in now if k not in floats]

    def __call__(self, batch: Batch, step: int, rate: float) -> Tensor:
        """Do step number ``step`` (from 0) at learning rate ``rate``; return its ``COLUMNS``, still on the device."""
        config, fabric = self._config, self._fabric
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        measure = bool(self._feature and config.fpl.norms_every and (step + 1) % config.fpl.norms_every == 0)
        sums = torch.zeros(3, device=fabric.device)
        norms = torch.full((2,), torch.nan, device=fabric.device)
        for k, part in enumerate(batch.parts(config.accumulate)):
            with fabric.no_backward_sync(self._net, enabled=k + 1 < config.accumulate):
                denoised, residual, feature = self._terms(part)
                loss = residual if feature is None else residual + self._weight * feature
                if measure and k == 0 and feature is not None:
                    norms = torch.stack([*_norms(denoised, residual, self._weight * feature)])
                fabric.backward(loss / config.accumulate)
            lost = residual.detach() if feature is None else feature.detach()
            sums += torch.stack([loss.detach(), residual.detach(), lost]).float() / config.accumulate
        if not self._weight:
            sums[2] = torch.nan
        norm = fabric.clip_gradients(self._net, self._optimizer, max_norm=config.clip, error_if_nonfinite=False)
        assert norm is not None
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average(min(config.ema, (1 + step) / (10 + step)))
        return torch.cat([sums, norm.detach().float().view(1), norms])

    def _terms(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the network's image and what it costs."""
        originals = self._fabric.to_device(batch.clean).contiguous(memory_format=torch.channels_last)
        clean = originals.repeat_interleave(batch.copies, 0) if batch.copies > 1 else originals
        if self._config.stage != "denoiser":
            # The clean image itself, or for a prior the noisy one and its level: what comes out is the image.
            seen = self._fabric.to_device(batch.noisy).contiguous(memory_format=torch.channels_last)
            out = self._net(seen)
            restored = out[:, :1]
            residual = residual_loss(restored, clean, self._config.loss)
            if batch.features is None or not self._config.features:
                return restored, residual, None
            return restored, residual, finding_loss(out[:, 1:], self._fabric.to_device(batch.features))
        noisy = self._fabric.to_device(batch.noisy).contiguous(memory_format=torch.channels_last)
        if self._experts is not None:
            return noisy, self._routing(self._experts, batch, clean, noisy), None
        denoised = noisy - self._net(noisy)
        residual = residual_loss(denoised, clean, self._config.loss)
        if self._feature is None:
            return denoised, residual, None
        # In 32 bits: what bfloat16 rounds away of two maps is not small against their difference.
        with torch.autocast(self._fabric.device.type, enabled=False):
            maps = self._feature.clean_map(originals)
            maps = maps.repeat_interleave(batch.copies, 0) if batch.copies > 1 else maps
            return denoised, residual, self._feature(denoised.float(), maps)

    def _routing(self, whole: Experts, batch: Batch, clean: Tensor, noisy: Tensor) -> Tensor:
        """Return what the router's logits cost: by the noise's name, or by the error of the mean they make."""
        logits = self._net(noisy).float()
        if self._config.net.route == "noise":
            families = [whole.config.family(label) for label in batch.labels]
            return F.cross_entropy(logits, torch.tensor(families, device=noisy.device))
        products = self._products.get(batch.number)
        if products is None:
            with self._fabric.autocast():
                products = whole.products(noisy, clean)
            if self._config.data.pool:  # the experts do not change, and these images come again
                self._products[batch.number] = products
        shares = logits.softmax(1)
        return squared_loss(torch.einsum("bk,bkl,bl->b", shares, products, shares), self._config.loss)

    @torch.no_grad()
    def _average(self, keep: float) -> None:
        torch._foreach_lerp_(self._mean, self._now, 1 - keep)
        for mean, now in self._counts:
            mean.copy_(now)


def _norms(denoised: Tensor, *terms: Tensor) -> Iterator[Tensor]:
    """Yield how hard each term pulls at the denoised image; costs a backward pass through the explained network."""
    for term in terms:
        (gradient,) = torch.autograd.grad(term, denoised, retain_graph=True)
        yield gradient.float().norm()
