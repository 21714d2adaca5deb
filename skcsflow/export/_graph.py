"""A fitted detector as one torch module: images as cameras give them in; all that is said of them out."""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skcsflow._images import Framing
from skcsflow.nn import CSFlowModel, interpolation_matrix

__all__ = ["OUTPUTS", "InspectionGraph", "Preprocessing"]

OUTPUTS = ("score", "label", "anomaly_map", "mask", "p_value")
"""Names of the outputs; the last one only where there are scores of a calibration."""

_while_loop: Callable[..., Any] = torch._higher_order_ops.while_loop  # which has no public name yet


class Preprocessing(NamedTuple):
    """How images become what the network takes.

    Attributes
    ----------
    framing : Framing
        Which part of an image is seen; not tiles.
    black, white : float
        Values that become 0 and 1.
    grey : float
        Value beside the region of interest.
    reverses_channels : bool
        Whether images have blue first.
    """

    framing: Framing
    black: float
    white: float
    grey: float
    reverses_channels: bool


class InspectionGraph(nn.Module):
    """All that a detector says of images, by operations that can be exported, for images of any size.

    Parameters
    ----------
    model : CSFlowModel
        The fitted model. A copy of it is used, on the CPU and in float32.
    preprocessing : Preprocessing
        How images become what it takes.
    offset, map_threshold : float
        Thresholds of scores and maps.
    calibration_scores : Tensor of shape (n,), float64, or None
        Scores of good images, for p-values.
    """

    calibration_scores: Tensor | None
    is_seen: Tensor | None

    def __init__(
        self,
        model: CSFlowModel,
        preprocessing: Preprocessing,
        offset: float,
        map_threshold: float,
        calibration_scores: Tensor | None,
    ) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval()
        self.preprocessing = preprocessing
        self.offset = offset
        self.map_threshold = map_threshold
        self.register_buffer("calibration_scores", calibration_scores)
        mask = preprocessing.framing.mask
        self.register_buffer("is_seen", None if mask is None else torch.from_numpy(mask))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Inspect images of shape (n, H, W, C); gives the tensors that `OUTPUTS` names."""
        n_rows, n_columns = images.shape[1], images.shape[2]
        box = self.preprocessing.framing.region or (0, 0, n_rows, n_columns)
        frame = self._frame(box[2] - box[0], box[3] - box[1])
        features = self.model.feature_extractor(self._standardize(images, box, frame))
        z, _ = self.model.flow(features)
        scale_maps = self.model.scale_maps(z)
        scores = -self.model.score(z, scale_maps)
        maps = self.model.anomaly_map_generator.fuse(scale_maps, (frame[0], frame[1]))[:, 0]
        maps = self._paste(maps, box, frame, (n_rows, n_columns))
        labels = torch.where(scores - self.offset >= 0, 1, -1)
        outputs = scores, labels, maps, self._mark(maps)
        if self.calibration_scores is None:
            return outputs
        n_as_low = (self.calibration_scores <= scores[:, None]).sum(dim=1)
        return *outputs, (1 + n_as_low).double() / (len(self.calibration_scores) + 1)

    def _frame(self, n_rows: int, n_columns: int) -> tuple[int, int, int, int]:
        """Height and width of what is resized, and where in it the seen part begins: more with bars beside it."""
        aspect = self.preprocessing.framing.aspect
        if aspect is None:
            return n_rows, n_columns, 0, 0
        more_rows: Any = torch.sym_max(0, _round_ratio(n_columns * aspect[0], aspect[1]) - n_rows)
        more_columns: Any = torch.sym_max(0, _round_ratio(n_rows * aspect[1], aspect[0]) - n_columns)
        return n_rows + more_rows, n_columns + more_columns, more_rows // 2, more_columns // 2

    def _standardize(
        self, images: Tensor, box: tuple[int, int, int, int], frame: tuple[int, int, int, int]
    ) -> Tensor:
        """Resize images to the network's input, scale them to the range from 0 to 1, and order their channels."""
        top, left, bottom, right = box
        grey, n_channels = self.preprocessing.grey, self.model.config["num_channels"]
        x = images.permute(0, 3, 1, 2)[:, :, top:bottom, left:right].float()
        if self.is_seen is not None:
            x = torch.where(self.is_seen[top:bottom, left:right], x, grey)
        rows, columns = (
            _part_of(interpolation_matrix(n_out, n_frame, antialias=True), start, n, dim=1)
            for n_out, n_frame, start, n in zip(
                self.model.input_size, frame[:2], frame[2:], x.shape[2:], strict=True
            )
        )
        x = rows @ x @ columns.T
        if self.preprocessing.framing.aspect is not None:  # what is missing to sums of 1 are grey bars
            x = x + grey * (1 - rows.sum(dim=1)[:, None] * columns.sum(dim=1))
        black, white = self.preprocessing.black, self.preprocessing.white
        x = (x - black) / (white - black)
        order = torch.arange(n_channels)
        if self.preprocessing.reverses_channels:
            order = order.flip(0)
        if n_channels == 3:  # the one channel of grey images three times; no fourth channel
            order = order.clamp(max=x.shape[1] - 1)
        return x.index_select(1, order)

    def _paste(
        self,
        maps: Tensor,
        box: tuple[int, int, int, int],
        frame: tuple[int, int, int, int],
        size: tuple[int, int],
    ) -> Tensor:
        """Maps of images by those of their frames."""
        framing = self.preprocessing.framing
        top, left, bottom, right = box
        if framing.aspect is not None:
            maps = _part_of(maps, frame[2], bottom - top, dim=1)
            maps = _part_of(maps, frame[3], right - left, dim=2)
        if framing.region is None:
            return maps
        is_seen = torch.ones_like(maps[:1], dtype=torch.bool)
        if self.is_seen is not None:
            is_seen = self.is_seen[None, top:bottom, left:right]
        lowest = torch.where(is_seen, maps, math.inf).amin(dim=(1, 2), keepdim=True).clamp(max=0)
        margins = (left, size[1] - right, top, size[0] - bottom)
        is_seen = F.pad(is_seen.float(), margins) > 0
        return torch.where(is_seen, F.pad(maps, margins), lowest)

    def _mark(self, maps: Tensor) -> Tensor:
        """Masks of maps, as :func:`~skcsflow._regions.mark_pixels` makes them."""
        values = maps.double()
        is_above = values > self.map_threshold
        lowest = torch.finfo(maps.dtype).min

        # The highest value of each region spreads from pixel to pixel until nothing changes.
        def goes_on(changed: Tensor, peaks: Tensor) -> Tensor:
            return changed.clone()

        def spread(changed: Tensor, peaks: Tensor) -> tuple[Tensor, Tensor]:
            further = torch.where(is_above, F.max_pool2d(peaks[:, None], 3, 1, 1)[:, 0], lowest)
            return (further > peaks).any(), further

        _, peaks = _while_loop(goes_on, spread, (is_above.any(), torch.where(is_above, maps, lowest)))
        peaks = peaks.double()
        levels = torch.minimum(self.model.anomaly_map_generator.half_levels(peaks), peaks)
        return is_above & (values >= levels)


def _part_of(values: Tensor, start: int, n: int, dim: int) -> Tensor:
    """`n` places of a tensor, from `start` on; sizes may be symbols."""
    return values.index_select(dim, torch.arange(n) + start)


def _round_ratio(numerator: int, denominator: int) -> int:
    """The whole number next to a ratio of positive ones, the even one of two as near; for symbols too."""
    half_up = (2 * numerator + denominator) // (2 * denominator)
    is_tie = (2 * numerator + denominator) % (2 * denominator) == 0
    return half_up - (half_up % 2) * is_tie
