"""What the service answers, as JSON."""

import base64
import math
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from skcsflow._detector import CSFlowDetector, Inspection

__all__ = ["Answer", "describe", "encode_png"]


class FoundRegion(BaseModel):
    """A connected region of anomalous pixels."""

    bbox: tuple[int, int, int, int] = Field(
        description="min_row, min_col, max_row, max_col; the last two outside."
    )
    area: int = Field(description="Pixels.")
    peak: float | None = Field(description="Highest value of the map.")
    peak_position: tuple[int, int] = Field(description="Row and column of it.")


class PngMap(BaseModel):
    """An anomaly map as a picture of 16 bits; a value is low + (high - low) * pixel / 65535."""

    png: str = Field(description="Base64.")
    low: float
    high: float


class Answer(BaseModel):
    """What a detector says of an image."""

    detector: str = Field(description="Its name.")
    score: float = Field(description="As score_samples gives it; higher is more normal.")
    label: int = Field(description="As predict gives it: 1, or -1 where anomalous.")
    threshold: float = Field(description="Scores below it are anomalous: offset_.")
    p_value: float | None = Field(description="As p_values gives it; null before calibrate.")
    map_threshold: float = Field(description="Pixels of the map above it are anomalous: map_threshold_.")
    height: int = Field(description="Of the image, upright, in pixels.")
    width: int
    regions: list[FoundRegion] = Field(description="As predict_regions gives them, the highest peak first.")
    map: PngMap | None = Field(default=None, description="Where it was asked for.")
    mask: str | None = Field(
        default=None, description="PNG in base64, 255 where anomalous, where it was asked for."
    )


def describe(
    name: str, detector: CSFlowDetector, found: Inspection, *, min_area: int, with_map: bool, with_mask: bool
) -> Answer:
    """Make the answer of an inspection.

    Parameters
    ----------
    name : str
        The detector's.
    detector : CSFlowDetector
        Who inspected.
    found : Inspection
        What it found.
    min_area : int
        Regions of fewer pixels are left out.
    with_map, with_mask : bool
        Whether map and mask are in it, as pictures.
    """
    height, width = found.anomaly_map.shape
    return Answer(
        detector=name,
        score=found.score,
        label=found.verdict,
        threshold=float(detector.offset_),
        p_value=None if math.isnan(found.p_value) else found.p_value,
        map_threshold=float(detector.map_threshold_),
        height=height,
        width=width,
        regions=[FoundRegion(**r._asdict()) for r in found.regions if r.area >= min_area],
        map=_png_map(found.anomaly_map) if with_map else None,
        mask=_base64(encode_png(found.mask.astype(np.uint8) * 255)) if with_mask else None,
    )


def encode_png(pixels: NDArray[Any]) -> bytes:
    """The file's content of a picture, uint8 or uint16 of shape (H, W), or uint8 of shape (H, W, 3)."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _png_map(anomaly_map: NDArray[np.float32]) -> PngMap:
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    scaled = (anomaly_map.astype(np.float64) - low) / ((high - low) or 1.0)
    return PngMap(png=_base64(encode_png((scaled * 65535).round().astype(np.uint16))), low=low, high=high)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
