"""The cross-scale flow."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from skcsflow.nn._anomalib import read_anomalib_weights
from skcsflow.nn._coupling import CrossScaleCoupling, CrossScaleSubnet
from skcsflow.nn._whitening import ScaleWhitening

__all__ = ["CrossScaleFlow"]


class CrossScaleFlow(nn.Module):
    r"""Normalizing flow over feature maps at several scales.

    A chain of coupling blocks, each behind a fixed permutation of the channels, maps
    the feature maps :math:`x` to latent maps :math:`z` of the same shapes, so that
    :math:`\log p(x) = \log \mathcal N(z; 0, I) + \log |\det \partial z / \partial x|`
    (paper, section 3.1).

    Parameters
    ----------
    channels : int or sequence of int
        Channels of the feature maps of each scale, at least 2, odd or even; or of all of
        `n_scales` scales.
    n_coupling_blocks : int, default=4
        Number of coupling blocks.
    cross_conv_hidden_channels : int or sequence of int, default=1024
        Hidden channels of the cross-scale subnets, of all scales or of each.
    clamp : float, default=3.0
        Bound of the log-scales, positive.
    kernel_sizes : sequence of odd int, default=None
        Kernel size of each block; by default 3, and 5 in the last block.
    n_scales : int, default=3
        Number of scales where `channels` is an int.
    shared_permutations : bool, default=True
        Whether scales of a block with as many channels share one permutation (as in anomalib)
        or each has its own (as in the authors' code). Block `k` draws from
        ``numpy.random.default_rng(k)``.
    whiten : bool, default=False
        Whether a :class:`~skcsflow.nn.ScaleWhitening` comes first. It is the identity
        until :meth:`initialize_whitening` is called.
    generator : torch.Generator, default=None
        Source of the initial weights; by default torch's global one.

    Raises
    ------
    ValueError
        Where a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import CrossScaleFlow
    >>> flow = CrossScaleFlow(6, cross_conv_hidden_channels=8)
    >>> features = [torch.ones(2, 6, 10, 10), torch.ones(2, 6, 5, 5), torch.ones(2, 6, 3, 3)]
    >>> z, log_det = flow(features)
    >>> [tuple(m.shape) for m in z], tuple(log_det.shape)
    ([(2, 6, 10, 10), (2, 6, 5, 5), (2, 6, 3, 3)], (2,))
    """

    def __init__(
        self,
        channels: int | Sequence[int],
        *,
        n_coupling_blocks: int = 4,
        cross_conv_hidden_channels: int | Sequence[int] = 1024,
        clamp: float = 3.0,
        kernel_sizes: Sequence[int] | None = None,
        n_scales: int = 3,
        shared_permutations: bool = True,
        whiten: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        channels = _of_each_scale("channels", channels, 2, n_scales)
        hidden = _of_each_scale("cross_conv_hidden_channels", cross_conv_hidden_channels, 1, len(channels))
        if n_coupling_blocks < 1:
            raise ValueError(f"n_coupling_blocks must be at least 1, got {n_coupling_blocks!r}.")
        if len(hidden) != len(channels):
            raise ValueError(
                f"cross_conv_hidden_channels must be one number, or one for each of {len(channels)} scales, "
                f"got {cross_conv_hidden_channels!r}."
            )
        if not clamp > 0:
            raise ValueError(f"clamp must be positive, got {clamp!r}.")
        if kernel_sizes is None:
            kernel_sizes = [3] * (n_coupling_blocks - 1) + [5]
        if len(kernel_sizes) != n_coupling_blocks or any(k < 1 or k % 2 == 0 for k in kernel_sizes):
            raise ValueError(
                f"kernel_sizes must be {n_coupling_blocks} odd positive numbers, one per coupling block, "
                f"got {kernel_sizes!r}."
            )
        self.channels = channels
        self.whitening = ScaleWhitening(channels) if whiten else None
        permutations = _draw_permutations(channels, n_coupling_blocks, shared_permutations)
        for i, permutation in enumerate(permutations):
            self.register_buffer(f"permutations_{i}", permutation)
        self.blocks = nn.ModuleList(CrossScaleCoupling(channels, hidden, k, clamp) for k in kernel_sizes)
        self.reset_parameters(generator)

    @property
    def n_scales(self) -> int:
        """Number of scales."""
        return len(self.channels)

    @property
    def permutations(self) -> list[Tensor]:
        """Of each scale the channels' order in each block, int64 of shape (n_coupling_blocks, channels)."""
        return [self.get_buffer(f"permutations_{i}") for i in range(self.n_scales)]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights; the flow becomes the identity but for permutations and whitening."""
        for module in self.modules():
            if isinstance(module, CrossScaleSubnet):
                module.reset_parameters(generator)

    def initialize_whitening(
        self, batches: Iterable[Sequence[Tensor]], *, shrinkage: float | None = None
    ) -> None:
        """Set the whitening layer from training features, see :meth:`ScaleWhitening.initialize`.

        Parameters
        ----------
        batches : iterable of sequences of n_scales Tensors of shape (B, channels[i], H_i, W_i)
            The training features.
        shrinkage : float, default=None
            How far the covariance is shrunk towards the identity, from 0 to 1; None: as the number
            of images asks for.

        Raises
        ------
        ValueError
            Where the flow was built with ``whiten=False``.
        """
        if self.whitening is None:
            raise ValueError("This flow has no whitening layer; build it with whiten=True.")
        self.whitening.initialize(batches, shrinkage=shrinkage)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Map features to the latent space.

        Parameters
        ----------
        features : sequence of n_scales Tensors of shape (B, channels[i], H_i, W_i)
            Feature maps; each scale half the size of the one before, rounded up.

        Returns
        -------
        z : list of Tensors, shaped like `features`
            Latent maps.
        log_det : Tensor of shape (B,)
            Log-determinant of the Jacobian of each sample, over all scales.

        Raises
        ------
        ValueError
            Where number, rank, channels or batch sizes of the feature maps don't fit.
        """
        x, log_det = self.whiten(features)
        z, coupling_log_det = self.couple(x)
        return z, log_det + coupling_log_det

    def whiten(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Apply the first, fixed part of :meth:`forward`: the whitening, where there is one.

        It doesn't change in training.
        """
        features = self._check(features)
        if self.whitening is None:
            return features, features[0].new_zeros(features[0].shape[0])
        return self.whitening(features)

    def couple(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Apply the second, trained part of :meth:`forward`: permutations and coupling blocks."""
        x = self._check(features)
        log_det = x[0].new_zeros(x[0].shape[0])
        permutations = self.permutations
        for k, block in enumerate(self.blocks):
            x = [m[:, p[k]] for m, p in zip(x, permutations, strict=True)]
            x, block_log_det = block(x)
            log_det = log_det + block_log_det
        return x, log_det

    def inverse(self, z: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Map latent maps back to features.

        Parameters
        ----------
        z : sequence of n_scales Tensors of shape (B, channels[i], H_i, W_i)
            Latent maps.

        Returns
        -------
        features : list of Tensors, shaped like `z`
            Feature maps.
        log_det : Tensor of shape (B,)
            Log-determinant of the inverse's Jacobian, the negative of the forward one.
        """
        x = self._check(z)
        log_det = x[0].new_zeros(x[0].shape[0])
        permutations = self.permutations
        for k in reversed(range(len(self.blocks))):
            block = self.blocks[k]
            assert isinstance(block, CrossScaleCoupling)
            x, block_log_det = block.inverse(x)
            log_det = log_det + block_log_det
            x = [m[:, p[k].argsort()] for m, p in zip(x, permutations, strict=True)]
        if self.whitening is not None:
            x, whitening_log_det = self.whitening.inverse(x)
            log_det = log_det + whitening_log_det
        return x, log_det

    def _check(self, features: Sequence[Tensor]) -> list[Tensor]:
        features = list(features)
        if len(features) != self.n_scales:
            raise ValueError(f"Expected feature maps at {self.n_scales} scales, got {len(features)}.")
        for i, x in enumerate(features):
            if x.ndim != 4 or x.shape[1] != self.channels[i] or x.shape[0] != features[0].shape[0]:
                raise ValueError(
                    f"Expected feature maps of shape (batch, {self.channels[i]}, height, width) with one batch "
                    f"size for all scales, got {tuple(x.shape)} at scale {i}."
                )
        return features

    @classmethod
    def from_anomalib(cls, state_dict: Mapping[str, Tensor], clamp: float = 3.0) -> Self:
        """Build a flow from the weights of anomalib's ``CsFlowModel``.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            State dict of anomalib's torch model (keys under ``graph.``), or of its
            Lightning model (keys under ``model.graph.``). Other keys are passed over.
        clamp : float, default=3.0
            The clamp that the model was built with, which the state dict lacks.

        Returns
        -------
        CrossScaleFlow
            A flow with the same weights and permutations, and without whitening. Its
            latent maps are those of anomalib's flow as long as none of them exceeds
            the 1e6 at which anomalib cuts them off.

        Raises
        ------
        ValueError
            Where the state dict holds no, or not all, weights of such a flow.
        """
        weights = read_anomalib_weights(state_dict)
        flow = cls(
            weights.channels,
            n_coupling_blocks=len(weights.blocks),
            cross_conv_hidden_channels=weights.hidden_channels,
            clamp=clamp,
            generator=torch.Generator(),  # for weights that are replaced: the global state stays
        ).to(weights.dtype)
        try:
            for block, state in zip(flow.blocks, weights.blocks, strict=True):
                block.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"state_dict does not hold the weights of anomalib's CsFlowModel: {error}"
            ) from error
        return flow


def _of_each_scale(name: str, value: int | Sequence[int], least: int, n_scales: int) -> tuple[int, ...]:
    """One number for each scale, of a parameter that may be one for all."""
    values = (value,) * n_scales if isinstance(value, int | np.integer) else tuple(value)
    if not values or min(values) < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}.")
    return values


def _draw_permutations(channels: Sequence[int], n_blocks: int, shared: bool) -> list[Tensor]:
    """Of each scale the permutations of its channels, int64 of shape (n_blocks, channels)."""
    permutations = [np.empty((n_blocks, c), dtype=np.int64) for c in channels]
    for k in range(n_blocks):
        rng = np.random.default_rng(k)
        for i, c in enumerate(channels):
            permutations[i][k] = (np.random.default_rng(k) if shared else rng).permutation(c)
    return [torch.from_numpy(p) for p in permutations]
