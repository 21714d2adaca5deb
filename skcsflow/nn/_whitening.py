"""Whitening of the feature maps, as an exact invertible layer of the flow."""

from collections.abc import Iterable, Sequence

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
    variance, as a few hundred images do not determine it fully.

    The layer is not part of the paper's model. It takes the feature maps' first two
    moments off the coupling blocks' hands, which leaves them with less to learn.

    Parameters
    ----------
    channels : int
        Number of channels of the feature maps.
    n_scales : int, default=3
        Number of scales.

    Attributes
    ----------
    mean : Tensor of shape (n_scales, channels)
        :math:`\mu_i`; zero until :meth:`initialize` is called.
    weight, inverse_weight : Tensor of shape (n_scales, channels, channels)
        :math:`W_i` and its inverse; the identity until :meth:`initialize` is called.
    log_abs_det : Tensor of shape (n_scales,)
        :math:`\log |\det W_i|`, for one position.
    """

    mean: Tensor
    weight: Tensor
    inverse_weight: Tensor
    log_abs_det: Tensor

    def __init__(self, channels: int, n_scales: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.n_scales = n_scales
        identity = torch.eye(channels, dtype=torch.float32).repeat(n_scales, 1, 1)
        self.register_buffer("mean", torch.zeros(n_scales, channels, dtype=torch.float32))
        self.register_buffer("weight", identity)
        self.register_buffer("inverse_weight", identity.clone())
        self.register_buffer("log_abs_det", torch.zeros(n_scales, dtype=torch.float32))

    @torch.no_grad()
    def initialize(self, batches: Iterable[Sequence[Tensor]], *, shrinkage: float = 0.003) -> None:
        r"""Set mean and weight from feature maps.

        Parameters
        ----------
        batches : iterable of sequences of n_scales Tensors of shape (B, channels, H_i, W_i)
            The training features, in any number of batches. They are read once; the
            sums are kept in float64.
        shrinkage : float, default=0.003
            :math:`\alpha`, from 0 (none) to 1 (scale each dimension alike).

        Raises
        ------
        ValueError
            Where there is no batch, or the features are not finite.
        """
        count = [0] * self.n_scales
        pivot: list[Tensor] = []
        total: list[Tensor] = []
        outer: list[Tensor] = []
        for features in batches:
            columns = [x.detach().movedim(1, 0).reshape(self.channels, -1).double() for x in features]
            if not pivot:
                # Sums are taken about a typical value: the difference of two large
                # numbers would otherwise eat the digits of a small variance.
                pivot = [x.mean(dim=1, keepdim=True) for x in columns]
                total = [torch.zeros_like(p) for p in pivot]
                outer = [p.new_zeros(self.channels, self.channels) for p in pivot]
            for i, x in enumerate(columns):
                x = x - pivot[i]
                count[i] += x.shape[1]
                total[i] += x.sum(dim=1, keepdim=True)
                outer[i] += x @ x.T
        if not pivot:
            raise ValueError("initialize needs at least one batch of features, got none.")
        for i in range(self.n_scales):
            offset = total[i] / count[i]
            covariance = outer[i] / count[i] - offset @ offset.T
            if not torch.isfinite(covariance).all():
                raise ValueError(f"The features of scale {i} hold NaN or infinity, or overflow float64.")
            self._set(i, (pivot[i] + offset)[:, 0], _shrink(covariance, shrinkage))

    def _set(self, i: int, mean: Tensor, covariance: Tensor) -> None:
        variances, axes = torch.linalg.eigh(covariance)
        scales = variances.sqrt()
        self.mean[i] = mean.to(self.mean)
        self.weight[i] = ((axes / scales) @ axes.T).to(self.weight)
        self.inverse_weight[i] = ((axes * scales) @ axes.T).to(self.weight)
        self.log_abs_det[i] = -scales.log().sum().to(self.log_abs_det)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Whiten the feature maps.

        Parameters
        ----------
        features : sequence of Tensors of shape (B, channels, H_i, W_i)
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
            whitened = [
                _mix_channels(self.weight[i], x - self.mean[i, :, None, None]) for i, x in enumerate(features)
            ]
        return whitened, self._log_det(features)

    def inverse(self, whitened: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Undo :meth:`forward`.

        Parameters
        ----------
        whitened : sequence of Tensors of shape (B, channels, H_i, W_i)
            What :meth:`forward` returned.

        Returns
        -------
        features : list of Tensors, shaped like `whitened`
            The feature maps.
        log_det : Tensor of shape (B,)
            Log-determinant of the inverse's Jacobian: the negative of the forward one.
        """
        features = [
            _mix_channels(self.inverse_weight[i], x) + self.mean[i, :, None, None]
            for i, x in enumerate(whitened)
        ]
        return features, -self._log_det(whitened)

    def _log_det(self, features: Sequence[Tensor]) -> Tensor:
        positions = [x.shape[2] * x.shape[3] for x in features]
        log_det = sum(n * self.log_abs_det[i] for i, n in enumerate(positions))
        return torch.as_tensor(log_det).expand(features[0].shape[0])


def _mix_channels(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply every position's channel vector by a matrix."""
    if x.is_cuda:  # a convolution might be computed in TF32, which is too coarse here
        return torch.matmul(weight, x.flatten(2)).view_as(x)
    return nn.functional.conv2d(x, weight[:, :, None, None])


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
