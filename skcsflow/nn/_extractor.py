"""Frozen backbone that turns images into feature maps at several scales."""

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skcsflow.nn._fold import fold_batch_norms
from skcsflow.nn._weights import create_backbone

__all__ = ["MultiScaleFeatureExtractor"]

_STRIDE = 32


class MultiScaleFeatureExtractor(nn.Module):
    r"""Feature maps of an image at full, half and quarter size (paper, section 3.2).

    Each image is resized to :math:`\lceil H / 2^s \rceil \times \lceil W / 2^s \rceil`
    for scale :math:`s`, and each copy goes through the same frozen backbone, up to its
    last stage of stride 32. An EfficientNet has several: there it is the last one
    before the widest, as in the paper (36 blocks of EfficientNet-B5, timm's
    ``blocks.5``, 304 channels). What comes after is cut off, and batch norms are folded
    into the convolutions before them.

    Parameters
    ----------
    backbone : str, default="tf_efficientnet_lite0"
        timm's name of a convolutional network.
    weights : "auto", path or None, default="auto"
        ``"auto"``: the packaged ImageNet weights for ``tf_efficientnet_lite0``, ``1``
        and ``2``, else timm's pretrained weights from its local cache or its hub. A
        path: a local state dict. None: random weights.
    num_channels : int, default=3
        Channels of the images.
    n_scales : int, default=3
        Number of scales.
    seed : int, default=0
        Seed of random weights.

    Attributes
    ----------
    channels : int
        Channels of the feature maps.
    stride : int
        Stride of the feature maps against the images.
    mean, std : Tensor of shape (num_channels, 1, 1)
        What images are normalised with, as the backbone was trained. Where
        `num_channels` isn't 3, the mean over red, green and blue serves every channel.

    Raises
    ------
    ValueError
        Where timm doesn't know the backbone, it has no stage of stride 32, or the
        weights don't fit.
    OSError
        Where the weights can't be had.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import MultiScaleFeatureExtractor
    >>> extractor = MultiScaleFeatureExtractor("tf_efficientnet_lite0")
    >>> [tuple(f.shape) for f in extractor(torch.rand(1, 3, 320, 256))]
    [(1, 192, 10, 8), (1, 192, 5, 4), (1, 192, 3, 2)]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        *,
        weights: str | os.PathLike[str] | None = "auto",
        num_channels: int = 3,
        n_scales: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"num_channels must be at least 1, got {num_channels!r}.")
        self.backbone_name = backbone
        self.num_channels = num_channels
        self.n_scales = n_scales
        model: Any = create_backbone(backbone, weights, num_channels=num_channels, seed=seed)
        for name in ("mean", "std"):
            values = torch.tensor(model.pretrained_cfg[name], dtype=torch.float32)
            if len(values) != num_channels:
                values = values.mean().repeat(num_channels)
            self.register_buffer(name, values[:, None, None])
        if all(hasattr(model, part) for part in ("conv_stem", "bn1", "blocks")):
            self.backbone, self.channels, self.stride = _cut_efficientnet(model, num_channels)
            self._least_size = 1
        else:
            self.backbone, self.channels, self.stride = _cut_by_stride(
                model, backbone, weights, num_channels, seed
            )
            self._least_size = _STRIDE  # without padding, such as in ConvNeXt, less would vanish
        self.requires_grad_(False)
        self.eval()
        # Any size will do, but not every backbone takes any.
        size = 2 * _STRIDE if self._least_size == 1 else model.pretrained_cfg["input_size"][-1]
        fold_batch_norms(self.backbone, torch.zeros(1, num_channels, size, size, dtype=torch.float32))

    def train(self, mode: bool = True) -> "MultiScaleFeatureExtractor":
        """Stay in evaluation mode: batch norms must use their stored statistics for ever."""
        return super().train(False)

    def fingerprint(self) -> str:
        """Digest of the backbone's name, what is tapped of it and how, and its weights.

        Returns
        -------
        str
            40 hexadecimal digits. Equal for extractors that give the same features.
        """
        digest = hashlib.sha1(usedforsecurity=False)
        parts = (self.backbone_name, self.num_channels, self.n_scales)
        digest.update(repr(parts).encode())
        for name, tensor in self.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().cpu().numpy().data)
        return digest.hexdigest()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Extract feature maps: :meth:`pyramid` and :meth:`extract` in one.

        Parameters
        ----------
        images : Tensor of shape (B, num_channels, H, W)
            Images of any size, floating, from 0 to 1.

        Returns
        -------
        list of n_scales Tensors of shape (B, channels, H_s, W_s)
            Feature maps of each scale, the largest first.

        Raises
        ------
        ValueError
            Where rank or channels of the images don't fit, or the backbone can't take
            images of this size, or of one of the smaller sizes that it becomes.
        """
        return self.extract(self.pyramid(images))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Normalise images, and make them smaller by half for each scale.

        Parameters
        ----------
        images : Tensor of shape (B, num_channels, H, W)
            Images of any size, floating, from 0 to 1.

        Returns
        -------
        list of n_scales Tensors of shape (B, num_channels, H / 2**s, W / 2**s)
            Sizes rounded up, and at least 32 for a backbone without padding; bilinear,
            with antialiasing.

        Raises
        ------
        ValueError
            Where rank or channels of the images don't fit.
        """
        if images.ndim != 4 or images.shape[1] != self.num_channels:
            raise ValueError(
                f"Expected images of shape (batch, {self.num_channels}, height, width), got {tuple(images.shape)}."
            )
        images = (images - self.mean) / self.std
        scaled = [images]
        for scale in range(1, self.n_scales):
            size = [max(-(-n // 2**scale), self._least_size) for n in images.shape[-2:]]
            scaled.append(
                F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
            )
        return scaled

    def extract(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Extract feature maps of images at all scales.

        Parameters
        ----------
        pyramid : sequence of n_scales Tensors of shape (B, num_channels, H_s, W_s)
            What :meth:`pyramid` gives.

        Returns
        -------
        list of Tensors of shape (B, channels, ceil(H_s / stride), ceil(W_s / stride))
            Feature maps of each scale.

        Raises
        ------
        ValueError
            Where the backbone can't take images of one of these sizes.
        """
        return [self._extract_scale(scale, pyramid) for scale in range(self.n_scales)]

    def _extract_scale(self, scale: int, pyramid: Sequence[Tensor]) -> Tensor:
        images = pyramid[scale]
        try:
            features = self.backbone(images)
        except (AssertionError, RuntimeError) as error:
            if not _may_be_due_to_size(error):
                raise
            raise ValueError(
                f"backbone={self.backbone_name!r} can't take images of {pyramid[0].shape[-2]} x "
                f"{pyramid[0].shape[-1]} pixels, at scale {scale} {images.shape[-2]} x {images.shape[-1]}: "
                f"{str(error).rstrip('.')}. Choose another input_size or backbone; EfficientNets, "
                "ResNets and ConvNeXts take any size."
            ) from error
        maps: Tensor = features[0] if isinstance(features, list) else features
        return maps


def _may_be_due_to_size(error: Exception) -> bool:
    # Memory, device and dtype fail with errors derived from RuntimeError, or with one of these words.
    other = re.search(r"alloc|out of memory|CUDA|cuDNN|cuBLAS|same device|\btype\b|dtype", str(error))
    return type(error) in (AssertionError, RuntimeError) and other is None


@torch.no_grad()
def _cut_efficientnet(model: Any, num_channels: int) -> tuple[nn.Module, int, int]:
    """Stem and stages of an EfficientNet up to the one to tap; its channels and stride."""
    model.eval()
    size = 2 * _STRIDE
    stem = [model.conv_stem, model.bn1]
    if hasattr(model, "act1"):  # GhostNets keep apart the activation that is elsewhere a part of bn1
        stem.append(model.act1)
    x = nn.Sequential(*stem)(torch.zeros(1, num_channels, size, size, dtype=torch.float32))
    shapes = []
    for block in model.blocks:
        x = block(x)
        shapes.append((x.shape[1], size // x.shape[-1]))
    stride = max(stride for _, stride in shapes)
    candidates = [i for i, shape in enumerate(shapes) if shape[1] == stride]
    widest = max(candidates, key=lambda i: shapes[i][0])
    tapped = max((i for i in candidates if i < widest), default=widest)
    stages = nn.Sequential(*stem, *model.blocks[: tapped + 1])
    return stages, *shapes[tapped]


def _cut_by_stride(
    model: nn.Module, backbone: str, weights: str | os.PathLike[str] | None, num_channels: int, seed: int
) -> tuple[nn.Module, int, int]:
    """The network up to its last stage of stride 32, found by timm's own feature list."""
    strides = [stage["reduction"] for stage in getattr(model, "feature_info", [])]
    if _STRIDE not in strides:
        raise ValueError(
            f"backbone={backbone!r} has no stage of stride {_STRIDE} (its strides: {strides}); "
            "choose a convolutional network such as an EfficientNet, a ResNet or a ConvNeXt."
        )
    tapped = len(strides) - 1 - strides[::-1].index(_STRIDE)
    cut: Any = create_backbone(
        backbone, weights, num_channels=num_channels, seed=seed, features_only=True, out_indices=(tapped,)
    )
    return cut, cut.feature_info.channels()[0], _STRIDE
