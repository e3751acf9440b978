"""Model observers: how well a known lesion can be told from its absence, given many realisations of the noise."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from medfpl.bench.tasks.planting import distances

# Abbey & Barrett 2001: ten dense difference-of-Gaussian channels, the lowest at 0.005 cycles a pixel.
LOWEST, RATIO, WIDTH, COUNT = 0.005, 1.4, 1.67, 10
# Channels that a window is too small to tell apart are merged: singular values below this share of the largest.
_SAME = 0.02
# Images that vary less than this (working units) hold no noise to speak of.
_NOISELESS = 1e-6


def dense_dog_channels(reach: int) -> Tensor:
    """Return an orthonormal basis (P * P, n) of the dense difference-of-Gaussian channels on a window, n <= 10.

    P = 2 reach + 1. In frequency channel j is exp(-f^2 / 2 (Q s_j)^2) - exp(-f^2 / 2 s_j^2), s_j = 0.005 * 1.4^j.
    An observer's performance depends on the span of its channels alone, so a basis serves as well.
    """
    r2 = distances(reach).square().reshape(-1)

    def gaussian(s: float) -> Tensor:
        return 2 * pi * s * s * torch.exp(-2 * pi**2 * s * s * r2)

    bands = [LOWEST * RATIO**j for j in range(COUNT)]
    channels = torch.stack([gaussian(WIDTH * s) - gaussian(s) for s in bands], 1)
    channels = channels / channels.norm(dim=0)
    basis, singular, _ = torch.linalg.svd(channels, full_matrices=False)
    return basis[:, singular > _SAME * singular[0]]


@dataclass(frozen=True, eq=False)
class Readings:
    """An observer's responses (K realisations, L locations, n channels) without and with the lesion.

    Both have the same noise in the same realisation.
    """

    absent: Tensor
    present: Tensor

    @property
    def degrees(self) -> int:
        """The degrees of freedom of the covariance: one is spent on every location's own background."""
        return self.absent.shape[1] * (self.absent.shape[0] - 1)

    def covariance(self) -> Tensor:
        """Return the noise's covariance (n, n), pooled over locations and the mean of both classes."""
        return (_within(self.absent) + _within(self.present)) / 2

    def signal(self) -> tuple[Tensor, Tensor]:
        """Return the mean difference (n,) and the covariance (n, n) of its own error."""
        difference = self.present - self.absent
        return difference.mean((0, 1)), _within(difference) / (difference.shape[0] * difference.shape[1])


def _within(responses: Tensor) -> Tensor:
    k, places, n = responses.shape
    centred = (responses - responses.mean(0)).reshape(-1, n)
    return centred.T @ centred / (places * (k - 1))


def respond(windows: Tensor, channels: Tensor) -> Tensor:
    """Return the responses (K, L, n) of ``channels`` (P * P, n) to windows (K, L, P, P)."""
    return windows.flatten(2) @ channels


def detectability(readings: Readings, noise: Readings) -> float:
    """Return d' of the Hotelling observer for the lesion of ``readings`` with the covariance of ``noise``.

    d'^2 = s' K^-1 s. The background is known exactly: each location's mean is taken off. The covariance may come
    from more locations than the signal. Two biases of a finite sample are taken out: that of the inverse of an
    estimated covariance (Hartlap et al. 2007) and that of the error of the signal. The relative standard error of
    d'^2 is about sqrt(2 / (degrees - n + 1)). 0 where nothing is left of the signal, NaN where there is no noise.
    """
    covariance = noise.covariance()
    signal, error = readings.signal()
    n, degrees = len(signal), noise.degrees
    if degrees <= n + 1:
        raise ValueError(f"{degrees} degrees of freedom are too few for {n} channels")
    if float(signal.norm()) < _NOISELESS:
        return 0.0
    values, vectors = torch.linalg.eigh(covariance)
    if float(values[0].clamp_min(0).sqrt()) < _NOISELESS:
        return float("nan")
    whiten = vectors / values.sqrt()
    squared = (whiten.T @ signal).square().sum() - (whiten.T @ error @ whiten).trace()
    return float((squared * (degrees - n - 1) / degrees).clamp_min(0).sqrt())


def template_snr(readings: Readings, noise: Readings) -> float:
    """Return d' of a fixed template, the mean difference of its responses (n = 1) over their standard deviation.

    With the planted profile as the template this is the non-prewhitening matched filter. 0 where nothing is left of
    the signal, NaN where there is no noise.
    """
    signal, sd = float(readings.signal()[0]), float(noise.covariance().sqrt())
    if abs(signal) < _NOISELESS:
        return 0.0
    return signal / sd if sd >= _NOISELESS else float("nan")
