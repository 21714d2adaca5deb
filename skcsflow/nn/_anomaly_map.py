"""Anomaly maps and scores from latent maps."""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skcsflow.nn._energies import EnergyStatistics
from skcsflow.nn._resampling import resize

__all__ = ["AnomalyMapGenerator", "AnomalyMapMode", "ScoreMode", "anomaly_score", "log_likelihood"]

_Mode = TypeVar("_Mode", bound=StrEnum)


class AnomalyMapMode(StrEnum):
    """How the scales' maps become one.

    Attributes
    ----------
    ALL
        Product of the maps of all scales.
    MAX
        Map of the largest scale alone (paper, section 4.4).
    FUSED
        Sum of the standardised logarithms of the two largest scales, smoothed, see
        :class:`EnergyStatistics`.
    """

    ALL = "all"
    MAX = "max"
    FUSED = "fused"


class ScoreMode(StrEnum):
    """How latent maps become one number.

    Attributes
    ----------
    MEAN
        Mean over all dimensions of all scales (paper, equation 7).
    FUSED
        From the standardised logarithms of the highest energies of each scale, and of the mean
        energy of the coarsest, see :meth:`EnergyStatistics.score`.
    """

    MEAN = "mean"
    FUSED = "fused"


class AnomalyMapGenerator(nn.Module):
    """Anomaly maps from latent maps.

    The map of a scale is the mean of ``z ** 2`` over the channels, upsampled
    bilinearly to the input's size (paper, section 4.4).

    Parameters
    ----------
    input_dims : tuple of int (C, H, W)
        Shape of the images; the maps have its height and width.
    mode : AnomalyMapMode or {"all", "max", "fused"}, default=AnomalyMapMode.ALL
        How the scales' maps become one.
    statistics : EnergyStatistics, default=None
        What the mode "fused" standardises by. None: logarithms are taken as they are.

    Raises
    ------
    ValueError
        Where `mode` is none of the modes.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import AnomalyMapGenerator
    >>> z = [torch.ones(2, 4, 8, 8), torch.ones(2, 4, 4, 4), torch.ones(2, 4, 2, 2)]
    >>> AnomalyMapGenerator((3, 256, 256))(z).shape
    torch.Size([2, 1, 256, 256])
    """

    def __init__(
        self,
        input_dims: tuple[int, int, int],
        mode: AnomalyMapMode | str = AnomalyMapMode.ALL,
        statistics: EnergyStatistics | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = input_dims
        self.input_dims = (channels, height, width)
        self.mode = check_mode(AnomalyMapMode, mode)
        self.statistics = statistics

    def forward(self, z: Sequence[Tensor]) -> Tensor:
        """Compute anomaly maps.

        Parameters
        ----------
        z : sequence of Tensors of shape (B, C, H_i, W_i)
            Latent maps, the largest scale first.

        Returns
        -------
        Tensor of shape (B, 1, H, W)
            Anomaly maps; higher is more anomalous.
        """
        return self.fuse(self.scale_maps(z), self.input_dims[1:])

    def scale_maps(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Compute the map of each scale at its own size.

        Parameters
        ----------
        z : sequence of Tensors of shape (B, C, H_i, W_i)
            Latent maps.

        Returns
        -------
        list of Tensors of shape (B, 1, H_i, W_i)
            Mean of ``z ** 2`` over the channels.
        """
        return [m.square().mean(dim=1, keepdim=True) for m in z]

    def fuse(self, scale_maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Upsample the scales' maps and make them one.

        Parameters
        ----------
        scale_maps : sequence of Tensors of shape (B, 1, H_i, W_i)
            What :meth:`scale_maps` gives.
        size : sequence of int (H, W)
            Size of the maps to make.

        Returns
        -------
        Tensor of shape (B, 1, H, W)
            Anomaly maps.
        """
        if self.mode is AnomalyMapMode.FUSED:
            statistics = self.statistics or EnergyStatistics(len(scale_maps)).to(scale_maps[0])
            total, *others = statistics.standardize(scale_maps)[:2]
            for m in others:
                total = total + _upsample(m, total.shape[-2:])
            return _upsample(_smooth(total), size)
        chosen = scale_maps if self.mode is AnomalyMapMode.ALL else scale_maps[:1]
        return torch.stack([_upsample(m, size) for m in chosen]).prod(dim=0)

    def half_level(self, peak: float) -> float:
        r"""Find the value of a map where the energy is half-way between normal images and a peak.

        A strong defect raises the energies far around it, a weak one near by only. What lies above half of the
        excess is about as wide as the defect either way: the full width at half maximum.

        The scales that make up the map are taken to have, at the peak, r times the energy of normal images,
        all of them. The level is the map's value where they have :math:`(1 + r) / 2` times that energy.

        Parameters
        ----------
        peak : float
            The highest value of a region of a map.

        Returns
        -------
        float
            The level, below `peak`; minus infinity where the peak isn't above the value of normal images.

        Examples
        --------
        >>> from skcsflow.nn import AnomalyMapGenerator
        >>> round(AnomalyMapGenerator((3, 256, 256), "max").half_level(9.0), 6)
        5.0
        """
        normal, weight = self._of_normal_images()
        if self.mode is AnomalyMapMode.FUSED:
            return weight * _half(peak / weight)
        log_peak = math.log(peak) if peak > 0 else -math.inf
        log_level = normal + weight * _half((log_peak - normal) / weight)
        return math.exp(log_level) if math.isfinite(log_level) else -math.inf

    def half_levels(self, peaks: Tensor) -> Tensor:
        """:meth:`half_level` of many peaks, by operations that can be exported.

        Parameters
        ----------
        peaks : Tensor
            The highest values of regions, float64.

        Returns
        -------
        Tensor, shaped like `peaks`
            The levels.
        """
        normal, weight = self._of_normal_images()
        is_fused = self.mode is AnomalyMapMode.FUSED
        log_ratios = (peaks if is_fused else peaks.clamp(min=0).log() - normal) / weight
        halves = normal + weight * (log_ratios + torch.log1p((-log_ratios).exp()) - math.log(2))
        return torch.where(log_ratios > 0, halves if is_fused else halves.exp(), -math.inf)

    def _of_normal_images(self) -> tuple[float, float]:
        """The map of normal images, and its weight: with r times their energy, the map is normal + weight * log(r).

        But for the mode "fused", it is the map's logarithm that is so.
        """
        statistics = self.statistics or EnergyStatistics(3)
        if self.mode is AnomalyMapMode.FUSED:
            return 0.0, sum(1 / std for std in statistics.std[:2].tolist())
        means = statistics.mean[: 1 if self.mode is AnomalyMapMode.MAX else None].tolist()
        return sum(means), len(means)


def _half(log_ratio: float) -> float:
    """From log(r) to log((1 + r) / 2), for an r of any size; minus infinity where r isn't above 1."""
    if not log_ratio > 0:
        return -math.inf
    return log_ratio + math.log1p(math.exp(-log_ratio)) - math.log(2)


def _smooth(maps: Tensor) -> Tensor:
    """Weigh neighbouring positions by 1/6, 2/3 and 1/6 along each axis, as a cubic B-spline does."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = (padded[..., :-2, :] + 4 * padded[..., 1:-1, :] + padded[..., 2:, :]) / 6
    return (rows[..., :-2] + 4 * rows[..., 1:-1] + rows[..., 2:]) / 6


def _upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    if not torch.compiler.is_compiling() and tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return resize(maps, size)


def anomaly_score(z: Sequence[Tensor]) -> Tensor:
    """Anomaly score of each sample: the mean of ``z ** 2 / 2`` over all dimensions (paper, equation 7).

    Parameters
    ----------
    z : sequence of Tensors of shape (B, C_i, H_i, W_i)
        Latent maps.

    Returns
    -------
    Tensor of shape (B,)
        Scores in float64, summed in float64; higher is more anomalous.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import anomaly_score
    >>> anomaly_score([torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)])
    tensor([0.4000], dtype=torch.float64)
    """
    n_dims = sum(m[0].numel() for m in z)
    energy = torch.stack([m.double().square().flatten(1).sum(dim=1) for m in z]).sum(dim=0)
    return energy / (2 * n_dims)


def log_likelihood(z: Sequence[Tensor], log_det: Tensor) -> Tensor:
    r"""Log-likelihood of each sample per dimension: :math:`\log p(x) / D` (paper, equation 1).

    Parameters
    ----------
    z : sequence of Tensors of shape (B, C, H_i, W_i)
        Latent maps.
    log_det : Tensor of shape (B,)
        Log-determinant of each sample.

    Returns
    -------
    Tensor of shape (B,)
        In nats, float64.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import log_likelihood
    >>> log_likelihood([torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)], torch.zeros(1))
    tensor([-0.9189], dtype=torch.float64)
    """
    n_dims = sum(m[0].numel() for m in z)
    return log_det.double() / n_dims - anomaly_score(z) - math.log(2 * math.pi) / 2


def check_mode(modes: type[_Mode], mode: str, name: str = "mode") -> _Mode:
    """The mode of that name."""
    try:
        return modes(mode)
    except ValueError:
        choices = " or ".join(repr(str(choice)) for choice in modes)
        raise ValueError(f"{name} must be {choices}, got {mode!r}.") from None
