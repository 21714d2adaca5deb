"""Energies of normal images, and scores by comparison with them."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["EnergyStatistics"]

TOP_SHARE = 0.01
"""Share of a scale's positions whose mean energy stands for the scale: a small defect fills no more."""


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
    top_mean, top_std : Tensor of shape (n_scales,)
        Of the logarithm of the mean of the highest hundredth of an image's energies.
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
    >>> (statistics.score(defect) > 9).item()
    True
    """

    top_mean: Tensor
    top_std: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, n_scales: int) -> None:
        super().__init__()
        for name, value in (("top_mean", 0.0), ("top_std", 1.0), ("mean", 0.0), ("std", 1.0)):
            self.register_buffer(name, torch.full((n_scales,), value, dtype=torch.float32))

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
        tops, sums = [], []
        for maps in images:
            rows = [m.double().flatten()[None] for m in maps]
            tops.append(torch.cat([_log_of_top(row) for row in rows]))
            sums.append(torch.stack([_log(row).pow(k).mean() for row in rows for k in (1, 2)]))
        if not tops:
            raise ValueError("initialize needs at least one image, got none.")
        of_images = torch.stack(tops)
        first, second = torch.stack(sums).mean(dim=0).view(-1, 2).unbind(dim=1)
        self.top_mean.copy_(of_images.mean(dim=0))
        self.top_std.copy_(_or_one(of_images.std(dim=0) if len(tops) > 1 else torch.zeros(len(first))))
        self.mean.copy_(first)
        self.std.copy_(_or_one((second - first.square()).clamp(min=0).sqrt()))

    def score(self, scale_maps: Sequence[Tensor]) -> Tensor:
        r"""Score images by their highest energies: :math:`\log \sum_i e^{t_i}`.

        :math:`t_i` is the standardised logarithm of the mean of the highest hundredth of scale
        :math:`i`'s energies. A scale that is far above what normal images have decides; where
        none is, all count.

        Parameters
        ----------
        scale_maps : sequence of n_scales Tensors of shape (B, 1, H_i, W_i)
            Energies.

        Returns
        -------
        Tensor of shape (B,)
            Scores in float64; higher is more anomalous.
        """
        tops = torch.stack([_log_of_top(m.flatten(1)) for m in scale_maps], dim=1)
        return ((tops - self.top_mean) / self.top_std).logsumexp(dim=1)

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


def _log_of_top(energies: Tensor) -> Tensor:
    """Logarithm of the mean of the highest energies of each row, float64."""
    n = math.ceil(TOP_SHARE * energies.shape[1])
    return _log(energies.double().topk(n, dim=1).values.mean(dim=1))


def _or_one(std: Tensor) -> Tensor:
    """Standard deviations, and 1 where all values are alike."""
    return torch.where(std > 0, std, 1.0)
