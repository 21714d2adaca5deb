"""The training loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["CSFlowLoss"]


class CSFlowLoss(nn.Module):
    r"""Negative log-likelihood per dimension, without the Gaussian's constant.

    .. math::

        \mathcal L = \frac1B \sum_{b=1}^B \frac1D
            \left( \tfrac12 \lVert z_b \rVert^2 - \log |\det J_b| \right)

    with :math:`D` the number of dimensions of one sample over all scales (paper,
    equation 3). It is a mean over samples: duplicating a batch changes nothing.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import CSFlowLoss
    >>> z = [torch.ones(2, 4, 2, 2), torch.ones(2, 4, 1, 1)]
    >>> CSFlowLoss()(z, torch.zeros(2))
    tensor(0.5000)
    """

    def forward(self, z: Sequence[Tensor], log_det: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        z : sequence of Tensors of shape (B, C, H_i, W_i)
            Latent maps.
        log_det : Tensor of shape (B,)
            Log-determinant of each sample.

        Returns
        -------
        Tensor of shape ()
            The loss.

        Raises
        ------
        ValueError
            Where `log_det` does not hold one number per sample.
        """
        batch_size = z[0].shape[0]
        if log_det.shape != (batch_size,):
            raise ValueError(
                f"log_det must hold one number per sample, shape ({batch_size},), "
                f"got shape {tuple(log_det.shape)}."
            )
        n_dims = sum(m[0].numel() for m in z)
        energy = torch.stack([m.square().flatten(1).sum(dim=1) for m in z]).sum(dim=0) / 2
        return ((energy - log_det) / n_dims).mean()
