"""Energies of normal images, and scores by comparison with them."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["EnergyStatistics"]

TOP_SHARE = 0.01
"""Share of a scale's positions whose mean energy stands for the scale: a small defect fills no more."""

_FEW = -6.0
"""Below it, the series in :func:`_log_softplus` errs by less than 1e-14, of a number below -6."""


class EnergyStatistics(nn.Module):
    r"""Means and standard deviations of the logarithms of energies, from normal images.

    The energy of a position is the mean of :math:`z^2` over the channels. Scales differ in their
    number of channels and in how well the flow knows them, so that their energies can't be
    compared as they are. Their logarithms, standardised by what normal images have, can.
    The images must not be those that the flow was trained on: of these it knows the energies
    too well.

    Parameters
    ----------
    n_scales : int
        Number of scales.

    Attributes
    ----------
    image_log_mean, image_log_std : Tensor of shape (n_scales + 1,)
        Of logarithms that an image has: of the mean of each scale's highest hundredth of energies,
        and of the mean of all energies of the coarsest scale (the same number twice where it has
        a single position).
    mean, std : Tensor of shape (n_scales,)
        Of the logarithm of the energy of a position.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import EnergyStatistics
    >>> draw = torch.Generator().manual_seed(0)
    >>> normal = [[torch.rand(8, 8, generator=draw), torch.rand(4, 4, generator=draw)] for _ in range(20)]
    >>> statistics = EnergyStatistics(2)
    >>> statistics.initialize(normal)
    >>> defect = [torch.full((1, 1, 8, 8), 5.0), torch.ones(1, 1, 4, 4)]
    >>> (statistics.score(defect) > 3).item()
    True
    """

    image_log_mean: Tensor
    image_log_std: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, n_scales: int) -> None:
        super().__init__()
        self.register_buffer("image_log_mean", torch.zeros(n_scales + 1, dtype=torch.float32))
        self.register_buffer("image_log_std", torch.ones(n_scales + 1, dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(n_scales, dtype=torch.float32))
        self.register_buffer("std", torch.ones(n_scales, dtype=torch.float32))

    @torch.no_grad()
    def initialize(self, images: Iterable[Sequence[Tensor]]) -> None:
        """Set means and standard deviations.

        Parameters
        ----------
        images : iterable of sequences of n_scales Tensors of shape (H_i, W_i)
            Energies of normal images, read once.

        Raises
        ------
        ValueError
            Where there is no image.
        """
        logs, sums = [], []
        for maps in images:
            rows = [m.double().flatten()[None] for m in maps]
            logs.append(_logs_of_images(rows))
            sums.append(torch.stack([_log(row).pow(k).mean() for row in rows for k in (1, 2)]))
        if not logs:
            raise ValueError("initialize needs at least one image, got none.")
        of_images = torch.cat(logs)
        first, second = torch.stack(sums).mean(dim=0).view(-1, 2).unbind(dim=1)
        self.image_log_mean.copy_(of_images.mean(dim=0))
        self.image_log_std.copy_(
            _or_one(of_images.std(dim=0) if len(logs) > 1 else torch.zeros_like(self.image_log_std))
        )
        self.mean.copy_(first)
        self.std.copy_(_or_one((second - first.square()).clamp(min=0).sqrt()))

    def score(self, scale_maps: Sequence[Tensor]) -> Tensor:
        r"""Score images by their highest energies and the coarsest scale: :math:`\log \sum_i \log(1 + e^{t_i})`.

        :math:`t_i` is the standardised logarithm of the mean of the highest hundredth of scale
        :math:`i`'s energies; the last one, of the mean of all energies of the coarsest scale, for
        defects that fill the image. Each counts by how far it is above what normal images have, and
        next to nothing where it is below, as the size of a defect decides in which scales it shows.
        The sum is skewed, its logarithm hardly, so that a limit can be set by a few normal
        images' mean and standard deviation.

        Parameters
        ----------
        scale_maps : sequence of n_scales Tensors of shape (B, 1, H_i, W_i)
            Energies.

        Returns
        -------
        Tensor of shape (B,)
            Scores in float64; higher is more anomalous.
        """
        t = (_logs_of_images([m.flatten(1) for m in scale_maps]) - self.image_log_mean) / self.image_log_std
        return _log_softplus(t).logsumexp(dim=1)

    def standardize(self, scale_maps: Sequence[Tensor]) -> list[Tensor]:
        """Standardise the logarithms of the energies of all positions.

        Parameters
        ----------
        scale_maps : sequence of n_scales Tensors of shape (B, 1, H_i, W_i)
            Energies.

        Returns
        -------
        list of Tensors of shape (B, 1, H_i, W_i)
            Standardised logarithms.
        """
        return [(_log(m) - self.mean[i]) / self.std[i] for i, m in enumerate(scale_maps)]


def _log(energies: Tensor) -> Tensor:
    return energies.clamp(min=torch.finfo(torch.float32).tiny).log()


def _log_softplus(t: Tensor) -> Tensor:
    """log(log(1 + e^t)), by operations that all engines know, some of which round 1 + e^t."""
    u = t.clamp(max=_FEW).exp()
    series = t + u * (-1 / 2 + u * (5 / 24 + u * (-1 / 8 + u * 251 / 2880)))
    larger = t.clamp(min=_FEW)
    return torch.where(t < _FEW, series, (larger.clamp(min=0) + larger.abs().neg().exp().log1p()).log())


def _logs_of_images(energies: Sequence[Tensor]) -> Tensor:
    """What images, the rows, are compared by: Tensor of shape (B, n_scales + 1), float64."""
    energies = [e.double() for e in energies]
    tops = [e.topk(math.ceil(TOP_SHARE * e.shape[1]), dim=1).values for e in energies]
    return _log(torch.stack([e.mean(dim=1) for e in (*tops, energies[-1])], dim=1))


def _or_one(std: Tensor) -> Tensor:
    """Standard deviations, and 1 where all values are alike."""
    return torch.where(std > 0, std, 1.0)
