"""Anomaly maps and scores from latent maps."""

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AnomalyMapGenerator", "AnomalyMapMode", "anomaly_score"]


class AnomalyMapMode(StrEnum):
    """How the scales' maps become one.

    Attributes
    ----------
    ALL
        Product of the maps of all scales.
    MAX
        Map of the largest scale alone (paper, section 4.4).
    """

    ALL = "all"
    MAX = "max"


class AnomalyMapGenerator(nn.Module):
    """Anomaly maps from latent maps.

    The map of a scale is the mean of ``z ** 2`` over the channels, upsampled
    bilinearly to the input's size (paper, section 4.4).

    Parameters
    ----------
    input_dims : tuple of int (C, H, W)
        Shape of the images; the maps have its height and width.
    mode : AnomalyMapMode or {"all", "max"}, default=AnomalyMapMode.ALL
        How the scales' maps become one.

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
        self, input_dims: tuple[int, int, int], mode: AnomalyMapMode | str = AnomalyMapMode.ALL
    ) -> None:
        super().__init__()
        channels, height, width = input_dims
        self.input_dims = (channels, height, width)
        try:
            self.mode = AnomalyMapMode(mode)
        except ValueError:
            choices = " or ".join(repr(str(choice)) for choice in AnomalyMapMode)
            raise ValueError(f"mode must be {choices}, got {mode!r}.") from None

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
        chosen = scale_maps if self.mode is AnomalyMapMode.ALL else scale_maps[:1]
        upsampled = [F.interpolate(m, size=tuple(size), mode="bilinear", align_corners=False) for m in chosen]
        return torch.stack(upsampled).prod(dim=0)


def anomaly_score(z: Sequence[Tensor]) -> Tensor:
    """Anomaly score of each sample: the mean of ``z ** 2 / 2`` over all its dimensions.

    Parameters
    ----------
    z : sequence of Tensors of shape (B, C, H_i, W_i)
        Latent maps.

    Returns
    -------
    Tensor of shape (B,)
        Scores in float64, summed in float64; higher is more anomalous (paper, equation 7).
    """
    n_dims = sum(m[0].numel() for m in z)
    energy = torch.stack([m.double().square().flatten(1).sum(dim=1) for m in z]).sum(dim=0)
    return energy / (2 * n_dims)
