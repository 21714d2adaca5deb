"""What a fit warns of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skcsflow._checks import warn
from skcsflow._training import SETBACK_RATE

__all__ = [
    "LEAST_IMAGES",
    "warn_of_few",
    "warn_of_kept_thresholds",
    "warn_of_large_tiles",
    "warn_of_setbacks",
    "warn_unless_learnt",
]

LEAST_IMAGES = 10
"""Training images of which some are held out, at least. With fewer, all are both trained on and compared with."""

MOST_COPIES = 0.1
"""Share of copies among the training images up to which the images held out stand for fresh ones."""

LEAST_GAIN = 0.02
"""Fall of the loss, in nats per dimension, with less of which a flow has hardly learnt."""


def warn_of_large_tiles(tile_size: Any, sizes: Sequence[tuple[int, int]], given: Any) -> None:
    """Warn where tiles are larger than all training images."""
    if tile_size is not None and (np.max(sizes, axis=0) < tile_size).any():
        warn(
            f"tile_size={given!r} is larger than every training image, in rows or in columns: the "
            f"largest have {np.max(sizes, axis=0).tolist()} pixels (H, W). Grey fills the rest of the tiles. Set "
            "a smaller tile_size, or None."
        )


def warn_of_few(n_images: int, n_different: int, holds_out: bool) -> None:
    """Warn of too few training images, or of copies among them, where some should be held out."""
    n_copies = n_images - n_different
    if n_different == 1:
        reason = "All images of good parts in X are one and the same"
    elif not holds_out:
        return
    elif n_images < LEAST_IMAGES:
        reason = f"X has {n_images} images of good parts, too few to hold any out"
    elif n_copies > MOST_COPIES * n_images:
        reason = (
            f"{n_copies} of the {n_images} images of good parts in X are copies of others, and some of those held "
            "out of the training are copies of images in it"
        )
    else:
        return
    warn(
        f"{reason}. Scores and thresholds go by images that the flow is trained on, so that far more than 5 % of "
        f"other good images will be flagged. Give at least {LEAST_IMAGES} different images, better 40, or call "
        "calibrate with good images that are not in X.",
        ConvergenceWarning,
    )


def warn_of_setbacks(n_setbacks: int, learning_rate: float, max_grad_norm: float | None) -> None:
    """Warn of a training that diverged and went on with a lower rate."""
    warn(
        f"Training diverged {n_setbacks} times. Each time the flow went back to its last good weights, and on with "
        f"a learning rate {1 / SETBACK_RATE:g} times lower. Lower learning_rate={learning_rate!r} or "
        f"max_grad_norm={max_grad_norm!r}.",
        ConvergenceWarning,
    )


def warn_of_kept_thresholds(n_images: int, is_calibrated: bool) -> None:
    """Warn that a continued training has left the thresholds as they were."""
    reason = (
        "those of calibrate are kept" if is_calibrated else f"{n_images} images are too few to set them anew"
    )
    warn(
        f"partial_fit has trained the model further, and left offset_ and map_threshold_ as they were: {reason}. "
        "Call calibrate with images that it was not trained on, for thresholds of the model as it is now."
    )


def warn_unless_learnt(gain: float, n_epochs: int) -> None:
    """Warn of a training that has changed next to nothing; its gain is in nats per dimension."""
    if gain < LEAST_GAIN:
        warn(
            f"The flow has hardly learnt: its loss fell by {gain:.2g} nats per dimension in {n_epochs} epochs. "
            "Its scores say little more than means and covariances of features. Train longer, by n_epochs='auto' "
            "or a larger number, or with another learning_rate.",
            ConvergenceWarning,
        )
