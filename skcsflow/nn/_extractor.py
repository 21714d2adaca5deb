"""Frozen backbone that turns images into feature maps at several scales."""

import hashlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skcsflow.nn._fold import fold_batch_norms
from skcsflow.nn._resampling import resize
from skcsflow.nn._weights import create_backbone

__all__ = ["MultiScaleFeatureExtractor", "check_strides"]

_PASS_STRIDE = 32
"""Stride that one pass of a convolutional network goes up to."""

_LEAST_SIZE = 32
"""Height and width of an image, at least, for networks without padding, such as ConvNeXt: less would vanish."""


class MultiScaleFeatureExtractor(nn.Module):
    r"""Feature maps of an image at several strides, by a frozen backbone.

    Strides up to 32 are stages of one pass of the backbone over the image. Those above are its
    stage of stride 32 of the image at half, a quarter, ... of its size, rounded up. So ``(32, 64,
    128)`` is the paper's pyramid of three image sizes (section 3.2), and ``(8, 16, 32, 64)`` takes
    two passes. What no scale needs is cut off, and batch norms are folded into the convolutions
    before them.

    An EfficientNet has several stages of one stride. The last of them before the network's
    widest stage is taken, as in the paper (stride 32 of EfficientNet-B5 is timm's ``blocks.5``,
    304 channels). Of other networks it is the last one.

    A vision transformer has one stride, the size of its patches. Its other strides come from the
    image at half, a quarter, ... of its size.

    Parameters
    ----------
    backbone : str, default="tf_efficientnet_lite0"
        timm's name of a convolutional network or a vision transformer.
    weights : "auto", path or None, default="auto"
        ``"auto"``: the packaged ImageNet weights for ``tf_efficientnet_lite0``, ``1``
        and ``2``, else timm's pretrained weights from its local cache or its hub. A
        path: a local state dict. None: random weights.
    num_channels : int, default=3
        Channels of the images.
    strides : sequence of int, default=(32, 64, 128)
        Strides of the feature maps against the image, each twice the one before.
    seed : int, default=0
        Seed of random weights.

    Attributes
    ----------
    channels : tuple of int
        Channels of the feature maps of each scale.
    strides : tuple of int
        Stride of each scale.
    mean, std : Tensor of shape (num_channels, 1, 1)
        What images are normalised with, as the backbone was trained. Where
        `num_channels` isn't 3, the mean over red, green and blue serves every channel.

    Raises
    ------
    ValueError
        Where timm doesn't know the backbone, it has no stage of such a stride, the strides
        don't double, or the weights don't fit.
    OSError
        Where the weights can't be had.

    Examples
    --------
    >>> import torch
    >>> from skcsflow.nn import MultiScaleFeatureExtractor
    >>> extractor = MultiScaleFeatureExtractor("tf_efficientnet_lite0")
    >>> [tuple(f.shape) for f in extractor(torch.rand(1, 3, 320, 256))]
    [(1, 192, 10, 8), (1, 192, 5, 4), (1, 192, 3, 2)]
    >>> finer = MultiScaleFeatureExtractor("tf_efficientnet_lite0", strides=(8, 16, 32))
    >>> [tuple(f.shape) for f in finer(torch.rand(1, 3, 320, 256))]
    [(1, 40, 40, 32), (1, 112, 20, 16), (1, 192, 10, 8)]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        *,
        weights: str | os.PathLike[str] | None = "auto",
        num_channels: int = 3,
        strides: Sequence[int] = (32, 64, 128),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"num_channels must be at least 1, got {num_channels!r}.")
        self.backbone_name = backbone
        self.num_channels = num_channels
        self.strides = check_strides(strides)
        model: Any = create_backbone(backbone, weights, num_channels=num_channels, seed=seed)
        for name in ("mean", "std"):
            values = torch.tensor(model.pretrained_cfg[name], dtype=torch.float32)
            if len(values) != num_channels:
                values = values.mean().repeat(num_channels)
            self.register_buffer(name, values[:, None, None])
        create = partial(create_backbone, backbone, weights, num_channels=num_channels, seed=seed)
        try:
            cut = _cut(model, create, self.strides)
        except ValueError as error:
            raise ValueError(f"strides={self.strides}: backbone={backbone!r} {error}") from None
        self.backbone, self._top, self._least_size = cut.network, cut.top, cut.least_size
        channels = dict(zip(cut.strides, cut.channels, strict=True))
        self.channels = tuple(channels[min(stride, cut.top)] for stride in self.strides)
        self.requires_grad_(False)
        self.eval()
        # Any size will do, but not every backbone takes any.
        size = 2 * _PASS_STRIDE if cut.least_size == 1 else model.pretrained_cfg["input_size"][-1]
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
        parts = (self.backbone_name, self.num_channels, self.strides)
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
        list of Tensors of shape (B, channels[s], H_s, W_s)
            Feature maps of each stride, the largest first.

        Raises
        ------
        ValueError
            Where rank or channels of the images don't fit, or the backbone can't take
            images of this size, or of one of the smaller sizes that it becomes.
        """
        return self.extract(self.pyramid(images))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Normalise images, and make them smaller for the strides that one pass doesn't reach.

        Parameters
        ----------
        images : Tensor of shape (B, num_channels, H, W)
            Images of any size, floating, from 0 to 1.

        Returns
        -------
        list of Tensors of shape (B, num_channels, H / 2**k, W / 2**k)
            What goes through the backbone, one for each pass. Sizes are rounded up, and at
            least 32 for a backbone without padding; bilinear, with antialiasing.

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
        return [_shrink(images, factor, self._least_size) for factor, _ in self._passes()]

    def extract(self, pyramid: Sequence[Tensor], apply: Callable[..., Iterable[Any]] = map) -> list[Tensor]:
        """Extract the feature maps of images in all their sizes.

        Parameters
        ----------
        pyramid : sequence of Tensors of shape (B, num_channels, H / 2**k, W / 2**k)
            What :meth:`pyramid` gives.
        apply : callable, default=map
            Applies a function to each of them: `map`, or the like of several threads.

        Returns
        -------
        list of Tensors of shape (B, channels[s], H_s, W_s)
            Feature maps of each stride.

        Raises
        ------
        ValueError
            Where the backbone can't take images of one of these sizes.
        """

        def extract_one(images_and_pass: tuple[Tensor, tuple[int, int]]) -> list[Tensor]:
            images, (factor, stride) = images_and_pass
            try:
                maps: list[Tensor] = self.backbone(images)
            except (AssertionError, RuntimeError) as error:
                if not _may_be_due_to_size(error):
                    raise
                raise ValueError(
                    f"backbone={self.backbone_name!r} can't take images of {pyramid[0].shape[-2]} x "
                    f"{pyramid[0].shape[-1]} pixels, which for stride {stride} become {images.shape[-2]} x "
                    f"{images.shape[-1]}: {str(error).rstrip('.')}. Choose another input_size, other strides or "
                    "another backbone; EfficientNets, ResNets and ConvNeXts take any size."
                ) from error
            return maps if factor == 1 else maps[-1:]

        passes = apply(extract_one, list(zip(pyramid, self._passes(), strict=True)))
        return [m for maps in passes for m in maps]

    def _passes(self) -> list[tuple[int, int]]:
        """What each pass of the backbone divides the image's size by, and the largest stride that it is for."""
        within = [stride for stride in self.strides if stride <= self._top]
        first = [(1, within[-1])] if within else []
        return [*first, *((s // self._top, s) for s in self.strides if s > self._top)]


def check_strides(strides: Sequence[int]) -> tuple[int, ...]:
    """Check the parameter `strides`: each twice the one before."""
    is_sequence = isinstance(strides, Sequence | np.ndarray) and not isinstance(strides, str)
    checked = tuple(strides) if is_sequence and getattr(strides, "shape", None) != () else ()
    if (
        not checked
        or not all(isinstance(s, Integral) and s >= 1 for s in checked)
        or any(b != 2 * a for a, b in pairwise(checked))
    ):
        raise ValueError(
            f"strides must be integers, each twice the one before, such as (8, 16, 32, 64), got {strides!r}."
        )
    return tuple(int(s) for s in checked)


def _shrink(images: Tensor, factor: int, least_size: int) -> Tensor:
    if factor == 1:
        return images
    size = [max(-(-n // factor), least_size) for n in images.shape[-2:]]
    return resize(images, size, antialias=True)


def _may_be_due_to_size(error: Exception) -> bool:
    # Memory, device and dtype fail with errors derived from RuntimeError, or with one of these words.
    other = re.search(r"alloc|out of memory|CUDA|cuDNN|cuBLAS|same device|\btype\b|dtype", str(error))
    return type(error) in (AssertionError, RuntimeError) and other is None


class _Cut(NamedTuple):
    """A network without what is not needed of it.

    Attributes
    ----------
    network : nn.Module
        Maps images (B, C, H, W) to a list of feature maps.
    strides, channels : list of int
        Of each of these feature maps.
    top : int
        The largest stride that one pass could give.
    least_size : int
        Height and width of an image, at least.
    """

    network: nn.Module
    strides: list[int]
    channels: list[int]
    top: int
    least_size: int


def _cut(model: Any, create: Callable[..., Any], strides: Sequence[int]) -> _Cut:
    """Cut a backbone to what the strides need of one pass; `create` makes it anew in another way."""
    if all(hasattr(model, part) for part in ("conv_stem", "bn1", "blocks")):
        return _cut_efficientnet(model, strides)
    reductions = [stage["reduction"] for stage in getattr(model, "feature_info", [])]
    if len(reductions) > 1 and len(set(reductions)) == 1 and hasattr(model, "forward_intermediates"):
        return _cut_transformer(model, create, strides, reductions[0])
    return _cut_by_stride(create, strides, reductions)


def _taken(strides: Sequence[int], top: int, available: Iterable[int]) -> list[int]:
    """Strides that are taken of one pass; those above `top` come from smaller images."""
    own = sorted(stride for stride in available if stride <= top)
    wrong = [s for s in strides if (s not in own if s <= top else s % top)]
    if wrong or not own:
        possible = ", ".join(map(str, [*own, 2 * top, 4 * top, "..."])) if own else "none"
        raise ValueError(
            f"has no feature maps of stride {(wrong or list(strides))[0]}; its strides are {possible}."
        )
    return sorted({min(stride, top) for stride in strides})


@torch.no_grad()
def _cut_efficientnet(model: Any, strides: Sequence[int]) -> _Cut:
    """Stem and stages of an EfficientNet, up to the last that is taken."""
    model.eval()
    size = 2 * _PASS_STRIDE
    stem = [model.conv_stem, model.bn1]
    if hasattr(model, "act1"):  # GhostNets keep apart the activation that is elsewhere a part of bn1
        stem.append(model.act1)
    x = nn.Sequential(*stem)(torch.zeros(1, model.conv_stem.in_channels, size, size, dtype=torch.float32))
    channels, stage_strides = [], []
    for block in model.blocks:
        x = block(x)
        channels.append(x.shape[1])
        stage_strides.append(size // x.shape[-1])
    top = max(stage_strides)
    widest = max((i for i, s in enumerate(stage_strides) if s == top), key=lambda i: channels[i])
    last = {stage_strides[i]: i for i in (widest, *range(widest))}
    taken = _taken(strides, top, last)
    ends = [last[stride] + 1 for stride in taken]
    parts = [model.blocks[start:end] for start, end in pairwise([0, *ends])]
    stages = [nn.Sequential(*stem, *parts[0]), *(nn.Sequential(*part) for part in parts[1:])]
    return _Cut(_Stages(stages), taken, [channels[last[stride]] for stride in taken], top, 1)


class _Stages(nn.ModuleList):
    """Stages one after the other; gives what each gives."""

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self:
            x = stage(x)
            maps.append(x)
        return maps


def _cut_transformer(model: Any, create: Callable[..., Any], strides: Sequence[int], patch: int) -> _Cut:
    """A vision transformer without its head; the last block's patches, normalised."""
    sizes = {"dynamic_img_size": True, "dynamic_img_pad": True}
    if sizes.keys() <= inspect.signature(type(model)).parameters.keys():
        model = create(**sizes)  # it takes images of any size
    taken = _taken(strides, patch, [patch])
    return _Cut(_Transformer(model), taken, [model.num_features], patch, patch)


class _Transformer(nn.Module):
    """Patches of a vision transformer as a map."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.prune_intermediate_layers([-1], prune_norm=False, prune_head=True)
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            images, indices=[-1], norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps


def _cut_by_stride(create: Callable[..., Any], strides: Sequence[int], reductions: Sequence[int]) -> _Cut:
    """Another network up to the last stage that is taken, found by timm's own feature list."""
    top = max((r for r in reductions if r <= _PASS_STRIDE), default=_PASS_STRIDE)
    last = {reduction: i for i, reduction in enumerate(reductions)}
    taken = _taken(strides, top, last)
    network = create(features_only=True, out_indices=tuple(last[stride] for stride in taken))
    return _Cut(network, taken, network.feature_info.channels(), top, _LEAST_SIZE)
