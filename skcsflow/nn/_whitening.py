"""Whitening of the feature maps, as an exact invertible layer of the flow."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["ScaleWhitening"]


class ScaleWhitening(nn.Module):
    r"""Linear layer that whitens the channels of each scale, initialised from data.

    At scale :math:`i`, every position's channel vector becomes
    :math:`W_i (x - \mu_i)`, where :math:`\mu_i` is the mean and
    :math:`W_i = \Sigma_i^{-1/2}` the symmetric inverse root of the covariance, both
    taken over all positions of all training images. The map is linear, so its inverse
    is exact and its log-determinant, :math:`H_i W_i \log |\det W_i|`, is a constant.

    The covariance is shrunk towards a multiple of the identity,
    :math:`\Sigma = (1 - \alpha) S + \alpha \bar s I` with :math:`\bar s` the mean
    variance, as few images do not determine it fully.

    The layer is not part of the paper's model. It takes the feature maps' first two
    moments off the coupling blocks' hands, which leaves them with less to learn.

    Parameters
    ----------
    channels : sequence of int
        Channels of the feature maps of each scale.

    Attributes
    ----------
    scales : ModuleList
        Of each scale its buffers ``mean``, :math:`\mu_i` of shape (channels,); ``weight`` and
        ``inverse_weight``, :math:`W_i` and its inverse, of shape (channels, channels); and
        ``log_abs_det``, :math:`\log |\det W_i|` of shape (), for one position. The identity
        until :meth:`initialize` is called.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.scales = nn.ModuleList(_LinearMap(c) for c in channels)

    @torch.no_grad()
    def initialize(self, batches: Iterable[Sequence[Tensor]], *, shrinkage: float | None = None) -> None:
        r"""Set mean and weight from feature maps.

        Parameters
        ----------
        batches : iterable of sequences of Tensors of shape (B, channels[i], H_i, W_i)
            The training features, in any number of batches. They are read once; the
            sums are kept in float64.
        shrinkage : float, default=None
            :math:`\alpha`, from 0 (none) to 1 (scale each dimension alike). None: by the oracle
            approximating shrinkage of Chen, Wiesel, Eldar and Hero (IEEE Transactions on Signal
            Processing 58, 2010, equation 23), with the number of images as that of samples:
            positions of one image are too much alike to count as several.

        Raises
        ------
        ValueError
            Where there is no batch, or the features are not finite.
        """
        n_images = 0
        count = [0] * len(self.scales)
        pivot: list[Tensor] = []
        total: list[Tensor] = []
        outer: list[Tensor] = []
        for features in batches:
            columns = [x.detach().movedim(1, 0).flatten(1).double() for x in features]
            if not pivot:
                # Sums are taken about a typical value: the difference of two large
                # numbers would otherwise eat the digits of a small variance.
                pivot = [x.mean(dim=1, keepdim=True) for x in columns]
                total = [torch.zeros_like(p) for p in pivot]
                outer = [p.new_zeros(len(p), len(p)) for p in pivot]
            n_images += len(features[0])
            for i, x in enumerate(columns):
                x = x - pivot[i]
                count[i] += x.shape[1]
                total[i] += x.sum(dim=1, keepdim=True)
                outer[i] += x @ x.T
        if not pivot:
            raise ValueError("initialize needs at least one batch of features, got none.")
        for i, scale in enumerate(self.scales):
            offset = total[i] / count[i]
            covariance = outer[i] / count[i] - offset @ offset.T
            if not torch.isfinite(covariance).all():
                raise ValueError(f"The features of scale {i} hold NaN or infinity, or overflow float64.")
            amount = oas_shrinkage(covariance, n_images) if shrinkage is None else shrinkage
            cast(_LinearMap, scale).whiten((pivot[i] + offset)[:, 0], _shrink(covariance, amount))

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Whiten the feature maps.

        Parameters
        ----------
        features : sequence of Tensors of shape (B, channels[i], H_i, W_i)
            Feature maps.

        Returns
        -------
        whitened : list of Tensors, shaped like `features`
            Feature maps of mean 0 and covariance near the identity.
        log_det : Tensor of shape (B,)
            Log-determinant of the Jacobian, per sample.
        """
        # Never in bfloat16: eigenvalues differ by orders of magnitude.
        with torch.autocast(features[0].device.type, enabled=False):
            whitened = [scale(x) for scale, x in zip(self.scales, features, strict=True)]
        return whitened, self._log_det(features)

    def inverse(self, whitened: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Undo :meth:`forward`.

        Parameters
        ----------
        whitened : sequence of Tensors of shape (B, channels[i], H_i, W_i)
            What :meth:`forward` returned.

        Returns
        -------
        features : list of Tensors, shaped like `whitened`
            The feature maps.
        log_det : Tensor of shape (B,)
            Log-determinant of the inverse's Jacobian: the negative of the forward one.
        """
        features = [
            cast(_LinearMap, scale).inverse(x) for scale, x in zip(self.scales, whitened, strict=True)
        ]
        return features, -self._log_det(whitened)

    def _log_det(self, features: Sequence[Tensor]) -> Tensor:
        log_det = sum(
            x.shape[2] * x.shape[3] * cast(_LinearMap, scale).log_abs_det
            for scale, x in zip(self.scales, features, strict=True)
        )
        return torch.as_tensor(log_det).expand(features[0].shape[0])


class _LinearMap(nn.Module):
    """The invertible linear map of one scale's channels."""

    mean: Tensor
    weight: Tensor
    inverse_weight: Tensor
    log_abs_det: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        identity = torch.eye(channels, dtype=torch.float32)
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float32))
        self.register_buffer("weight", identity)
        self.register_buffer("inverse_weight", identity.clone())
        self.register_buffer("log_abs_det", torch.zeros((), dtype=torch.float32))

    def whiten(self, mean: Tensor, covariance: Tensor) -> None:
        """Become the map to mean 0 and covariance 1."""
        variances, axes = torch.linalg.eigh(covariance)
        scales = variances.sqrt()
        self.mean.copy_(mean)
        self.weight.copy_((axes / scales) @ axes.T)
        self.inverse_weight.copy_((axes * scales) @ axes.T)
        self.log_abs_det.copy_(-scales.log().sum())

    def forward(self, x: Tensor) -> Tensor:
        return _mix_channels(self.weight, x - self.mean[:, None, None])

    def inverse(self, x: Tensor) -> Tensor:
        return _mix_channels(self.inverse_weight, x) + self.mean[:, None, None]


def _mix_channels(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply every position's channel vector by a matrix."""
    if x.is_cuda:  # a convolution might be computed in TF32, which is too coarse here
        return torch.matmul(weight, x.flatten(2)).view_as(x)
    return nn.functional.conv2d(x, weight[:, :, None, None])


def oas_shrinkage(covariance: Tensor, n_samples: int) -> float:
    """Amount of shrinkage by oracle approximation, as ``sklearn.covariance.oas`` has it."""
    mean_square, square_of_mean = covariance.square().mean(), covariance.diagonal().mean().square()
    numerator = mean_square + square_of_mean
    denominator = (n_samples + 1) * (mean_square - square_of_mean / len(covariance))
    return 1.0 if denominator == 0 else min((numerator / denominator).item(), 1.0)


def _shrink(covariance: Tensor, shrinkage: float) -> Tensor:
    """Shrink a covariance; constant features, whose variance is 0, are left unscaled."""
    mean_variance = covariance.diagonal().mean()
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    if not mean_variance > torch.finfo(torch.float32).tiny:
        return identity
    # Without shrinkage, a rank-deficient covariance would have an infinite inverse
    # root; the floor is far below any variance that float32 features resolve.
    floor = 1e-12 * mean_variance
    return (1 - shrinkage) * covariance + (shrinkage * mean_variance + floor) * identity
