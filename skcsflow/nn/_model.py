"""The whole model: images in, maps and scores out."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from skcsflow._checks import check_size
from skcsflow.nn._anomaly_map import AnomalyMapGenerator, AnomalyMapMode, ScoreMode, anomaly_score, check_mode
from skcsflow.nn._energies import EnergyStatistics
from skcsflow.nn._extractor import MultiScaleFeatureExtractor, check_strides
from skcsflow.nn._flow import CrossScaleFlow

__all__ = ["CSFlowModel", "CSFlowOutput"]


class CSFlowOutput(NamedTuple):
    """What :class:`CSFlowModel` gives in evaluation mode.

    Attributes
    ----------
    anomaly_map : Tensor of shape (B, 1, H, W)
        Anomaly maps; higher is more anomalous.
    pred_score : Tensor of shape (B,)
        Anomaly scores, float64; higher is more anomalous.
    """

    anomaly_map: Tensor
    pred_score: Tensor


# torch.export.save writes the types of outputs by name, and asks for this.
_register_namedtuple(CSFlowOutput, serialized_type_name="skcsflow.nn.CSFlowOutput")


class CSFlowModel(nn.Module):
    """Feature extractor, cross-scale flow and map generator.

    Parameters
    ----------
    input_size : int or tuple of int (H, W)
        Size of the images, and of the maps.
    cross_conv_hidden_channels : int or sequence of int, default=1024
        Hidden channels of the flow's subnets, of all scales or of each.
    n_coupling_blocks : int, default=4
        Number of coupling blocks.
    clamp : float, default=3.0
        Bound of the flow's log-scales.
    num_channels : int, default=3
        Channels of the images.
    backbone : str, default="tf_efficientnet_lite0"
        timm's name of the backbone.
    weights : "auto", path or None, default="auto"
        The backbone's weights, see :class:`MultiScaleFeatureExtractor`.
    strides : sequence of int, default=(32, 64, 128)
        Strides of the flow's scales against the image, each twice the one before.
    kernel_sizes : sequence of int, default=None
        Kernel size of each coupling block; by default 3, and 5 in the last block.
    whiten : bool, default=False
        Whether the flow begins with a whitening layer. It is the identity until
        ``model.flow.initialize_whitening(features)`` is called.
    map_mode : AnomalyMapMode or {"all", "max", "fused"}, default=AnomalyMapMode.ALL
        How the scales' maps become one.
    score_mode : ScoreMode or {"mean", "fused"}, default=ScoreMode.MEAN
        How latent maps become a score. Scores and maps of the mode "fused" compare with the
        energies of normal images once ``model.statistics.initialize(images)`` was called.
    seed : int, default=0
        Seed of the flow's initial weights, and of a random backbone.
    feature_extractor : MultiScaleFeatureExtractor, default=None
        One that was built with `backbone`, `weights`, `num_channels` and `strides` already, and may be shared with
        other models. None: a new one.

    Attributes
    ----------
    config : dict
        The parameters that another model must be built with to take this one's state
        dict, by name.
    feature_extractor : MultiScaleFeatureExtractor
        Frozen and in evaluation mode always.
    flow : CrossScaleFlow
        The only part with weights to train.
    anomaly_map_generator : AnomalyMapGenerator
        Of the input's size.

    Raises
    ------
    ValueError
        Where `input_size` is not one or two integers of at least 1, or a part of the
        model can't be built with the other parameters.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import CSFlowLoss, CSFlowModel
    >>> model = CSFlowModel((64, 64), cross_conv_hidden_channels=8)
    >>> images = torch.rand(2, 3, 64, 64)
    >>> loss = CSFlowLoss()(*model.train()(images))
    >>> anomaly_map, pred_score = model.eval()(images)
    >>> anomaly_map.shape, pred_score.shape
    (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        input_size: int | tuple[int, int],
        cross_conv_hidden_channels: int | Sequence[int] = 1024,
        n_coupling_blocks: int = 4,
        clamp: float = 3.0,
        num_channels: int = 3,
        *,
        backbone: str = "tf_efficientnet_lite0",
        weights: str | os.PathLike[str] | None = "auto",
        strides: Sequence[int] = (32, 64, 128),
        kernel_sizes: Sequence[int] | None = None,
        whiten: bool = False,
        map_mode: AnomalyMapMode | str = AnomalyMapMode.ALL,
        score_mode: ScoreMode | str = ScoreMode.MEAN,
        seed: int = 0,
        feature_extractor: MultiScaleFeatureExtractor | None = None,
    ) -> None:
        super().__init__()
        height, width = check_size(input_size, "input_size")
        self.config: dict[str, Any] = {
            "input_size": (height, width),
            "cross_conv_hidden_channels": cross_conv_hidden_channels,
            "n_coupling_blocks": n_coupling_blocks,
            "clamp": clamp,
            "num_channels": num_channels,
            "backbone": backbone,
            "weights": None if weights is None else os.fspath(weights),
            "strides": check_strides(strides),
            "kernel_sizes": None if kernel_sizes is None else tuple(kernel_sizes),
            "whiten": whiten,
            "map_mode": str(map_mode),
            "score_mode": str(check_mode(ScoreMode, score_mode, "score_mode")),
        }
        self.feature_extractor = feature_extractor or MultiScaleFeatureExtractor(
            backbone, weights=weights, num_channels=num_channels, strides=strides, seed=seed
        )
        self.flow = CrossScaleFlow(
            self.feature_extractor.channels,
            n_coupling_blocks=n_coupling_blocks,
            cross_conv_hidden_channels=cross_conv_hidden_channels,
            clamp=clamp,
            kernel_sizes=kernel_sizes,
            whiten=whiten,
            generator=torch.Generator().manual_seed(seed),
        )
        statistics = EnergyStatistics(self.flow.n_scales)
        self.anomaly_map_generator = AnomalyMapGenerator((num_channels, height, width), map_mode, statistics)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images, and of the maps."""
        size: tuple[int, int] = self.config["input_size"]
        return size

    @property
    def score_mode(self) -> ScoreMode:
        """How latent maps become a score."""
        return ScoreMode(self.config["score_mode"])

    @property
    def statistics(self) -> EnergyStatistics:
        """What energies are compared with."""
        statistics = self.anomaly_map_generator.statistics
        assert statistics is not None
        return statistics

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.feature_extractor.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.feature_extractor.mean.dtype

    def scale_maps(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Compute the anomaly map of each scale, see :meth:`AnomalyMapGenerator.scale_maps`."""
        return self.anomaly_map_generator.scale_maps(z)

    def score(self, z: Sequence[Tensor], scale_maps: Sequence[Tensor]) -> Tensor:
        """Compute anomaly scores, see :class:`ScoreMode`.

        Parameters
        ----------
        z : sequence of Tensors of shape (B, C_i, H_i, W_i)
            Latent maps.
        scale_maps : sequence of Tensors of shape (B, 1, H_i, W_i)
            What :meth:`scale_maps` gives for them.

        Returns
        -------
        Tensor of shape (B,)
            Scores in float64; higher is more anomalous.
        """
        return self.statistics.score(scale_maps) if self.score_mode is ScoreMode.FUSED else anomaly_score(z)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor] | CSFlowOutput:
        """Latent maps in training mode, anomaly maps and scores in evaluation mode.

        Parameters
        ----------
        images : Tensor of shape (B, num_channels, H, W)
            Images, floating, from 0 to 1.

        Returns
        -------
        (z, log_det) or CSFlowOutput
            In training mode, a list of latent maps and log-determinants of shape (B,),
            for :class:`CSFlowLoss`; in evaluation mode, ``(anomaly_map, pred_score)``.
        """
        z, log_det = self.flow(self.feature_extractor(images))
        if self.training:
            return z, log_det
        maps = self.scale_maps(z)
        return CSFlowOutput(self.anomaly_map_generator.fuse(maps, self.input_size), self.score(z, maps))
