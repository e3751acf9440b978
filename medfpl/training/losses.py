"""The residual losses, each a mean over the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Error below this (working units squared; 60 dB) earns nothing more: the float noise of clean targets lies there.
FLOOR = 1e-6
# Lesions, vessels and boundaries fill a few hundredths of an image: they weigh more than its rest.
FEATURE_WEIGHTS = (4.0, 3.0, 6.0)


def residual_loss(denoised: Tensor, clean: Tensor, kind: str) -> Tensor:
    """Return the loss between (B, 1, H, W) batches in working units, a scalar.

    ``mse`` is the paper's: with y noisy, (y - denoised) - (y - clean) is clean - denoised. ``l1`` is the
    mean absolute error. ``rmse`` is the mean over items of sqrt(MSE + FLOOR): each item pulls with the same force,
    however strong its noise. ``psnr`` is the mean over items of log10(MSE + FLOOR): minus a tenth of the
    PSNR in dB, so that every item counts alike, the nearly clean as much as the severely corrupted. ``root``, the mean
    over items of the root of the RMSE, lies between: a tenth of the error pulls three times as hard, not ten times.
    """
    error = denoised.float() - clean.float()
    return error.abs().mean() if kind == "l1" else squared_loss(error.square().mean((1, 2, 3)), kind)


def squared_loss(squared: Tensor, kind: str) -> Tensor:
    """Return the ``residual_loss`` of items whose mean squared errors are ``squared`` (B,); there is no l1 of them."""
    if kind == "mse":
        return squared.mean()
    if kind == "rmse":
        return (squared + FLOOR).sqrt().mean()
    if kind == "root":
        return (squared + FLOOR).pow(0.25).mean()
    return torch.log10(squared + FLOOR).mean()


def finding_loss(logits: Tensor, features: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy of (B, 3, H, W) logits of planting.FEATURES, a scalar."""
    weights = torch.tensor(FEATURE_WEIGHTS, device=logits.device).view(1, -1, 1, 1)
    return F.binary_cross_entropy_with_logits(logits.float(), features, pos_weight=weights)
