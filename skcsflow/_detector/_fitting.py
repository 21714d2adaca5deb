"""How a detector is fitted: from images to a trained model with thresholds."""

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from torch import Tensor

from skcsflow._checkpoints import Checkpoint, check_folder
from skcsflow._compute import (
    Processes,
    Runner,
    check_engine,
    on_new_thread,
    one_core,
    parameter_dtype,
    resolve_device,
    resolve_n_threads,
    resolve_precision,
    training_precision,
)
from skcsflow._detector._parameters import (
    MOST_HIDDEN,
    MOST_KERNEL,
    check_counts,
    check_image_shape,
    check_input_size,
)
from skcsflow._detector._persistence import place_model
from skcsflow._detector._thresholds import AUTO_FPR
from skcsflow._detector._training_features import TrainingFeatures, readable_rows, training_features
from skcsflow._detector._warnings import (
    LEAST_IMAGES,
    warn_of_few,
    warn_of_kept_thresholds,
    warn_of_large_tiles,
    warn_of_setbacks,
)
from skcsflow._digests import digest_of
from skcsflow._features import in_batches, open_cache
from skcsflow._images import DIGEST_SIZE, Framing, ImageCollection, is_row_matrix
from skcsflow._labels import normal_rows
from skcsflow._scoring import MapMaker, score_features
from skcsflow._training import FlowTrainer, initialize_whitening, resolve_n_epochs
from skcsflow._version import __version__
from skcsflow.calibration import prediction_limit
from skcsflow.nn import CSFlowModel, check_strides

__all__ = ["FittingMixin"]

HELD_OUT_SHARE = 0.2
"""Share of the training images that are held out."""


class FittingMixin:
    """The steps of `fit` and `partial_fit` of :class:`~skcsflow.CSFlowDetector`."""

    input_size: Any
    image_shape: tuple[int, ...] | None
    tile_size: Any
    on_error: str
    backbone: str
    weights: Any
    strides: Sequence[int]
    n_coupling_blocks: int
    cross_conv_hidden_channels: Any
    kernel_size: Any
    clamp: float
    num_channels: int
    whiten: bool
    n_epochs: Any
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_grad_norm: float | None
    feature_noise: float
    random_state: Any
    contamination: Any
    score_mode: str
    map_mode: str
    memory: Any
    checkpoint: Any
    distributed: bool
    device: Any
    precision: str
    engine: str
    n_jobs: int | None
    verbose: int
    model_: CSFlowModel
    device_: torch.device
    precision_: str
    history_: dict[str, NDArray[np.float64]]
    offset_: float
    map_threshold_: float
    calibration_scores_: NDArray[np.float64]
    _runner: Runner
    _framing: Framing
    _trained_by: dict[str, Any] | None
    _trained_values: dict[str, float]
    _trained_images: NDArray[np.uint8]

    _check_X: Callable[..., ImageCollection]
    _known_images: Callable[[], set[bytes]]
    _new_framing: Callable[[], Framing]

    def _fit(self, X: Any, y: ArrayLike | None, **options: Any) -> float:
        """Fit, or leave the detector as it was: a failure must not leave a half-new one."""
        before = dict(vars(self))
        n_threads = resolve_n_threads(self.n_jobs)
        try:
            # Whatever modes the caller's thread is in; and this thread's own small operations on one core.
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.autocast("cuda" if torch.cuda.is_available() else "cpu", enabled=False),
                one_core(),
            ):
                return self._fit_steps(X, y, n_threads=n_threads, **options)
        except BaseException as error:
            self.__dict__ = before
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(
                error
            ):
                error.add_note(
                    f"The memory doesn't hold what is asked for. Lower input_size={self.input_size!r}, "
                    f"cross_conv_hidden_channels={self.cross_conv_hidden_channels!r} or "
                    f"batch_size={self.batch_size!r}; or set memory to a folder, from which fit reads the features of "
                    "many images."
                )
            raise

    def _fit_steps(
        self,
        X: Any,
        y: ArrayLike | None,
        *,
        reset: bool,
        is_continued: bool,
        n_epochs: int | str,
        lr_schedule: str,
        n_threads: int,
    ) -> float:
        """Fit; gives how far the loss has fallen."""
        size = check_input_size(self.input_size)
        check_image_shape(self.image_shape)
        processes = Processes(self.distributed)
        folder = None if self.checkpoint is None else check_folder(self.checkpoint)
        device = resolve_device(self.device, self.engine)
        check_engine(self.engine, self.precision, device)
        precision = resolve_precision(self.precision, device)
        images = self._check_X(X, reset=reset)
        normal = normal_rows(y, len(images), is_table=is_row_matrix(X))
        rows = readable_rows(images, normal, n_threads, goes_on=self.on_error != "raise")
        images.contents = set()
        model_seed, order_seed = processes.from_first(self._draw_seeds())
        has_few = len(rows) < LEAST_IMAGES
        keeps_thresholds = not reset and (has_few or hasattr(self, "calibration_scores_"))
        if is_continued:
            self._check_model_params(size)
        model = on_new_thread(
            lambda: place_model(
                self._copy_of_model() if is_continued else self._new_model(size, model_seed),
                device,
                parameter_dtype(precision),
            )
        )
        runner = Runner(model, device, precision, self.engine)
        cache = open_cache(self.memory)
        if processes.n > 1:
            self._check_processes(processes, runner, images, rows, n_epochs, lr_schedule)
        with training_features(
            runner, images, rows, n_threads, cache, processes, verbose=self.verbose
        ) as training:
            warn_of_large_tiles(images.framing.tile_size, training.sizes, self.tile_size)
            features = training.features
            checkpoint = None
            if folder is not None:
                started_by: dict[str, Any] = {"n_epochs": n_epochs, "lr_schedule": lr_schedule}
                if (
                    self.random_state is not None
                ):  # None means any seeds: those of a training that was cut short
                    started_by["seeds"] = [model_seed, order_seed]
                key = self._checkpoint_key(runner, training, is_continued, started_by)
                checkpoint = Checkpoint(folder, key, order_seed, is_writer=processes.rank == 0)
                checkpoint.seed, checkpoint.saved = processes.from_first((checkpoint.seed, checkpoint.saved))
                order_seed = checkpoint.seed
            # By the seed of the first fit: images that it was trained on must not be held out of a training that goes
            # on. The orders are others than before.
            learnt, held_out = self._hold_out(len(rows), order_seed)
            frames = training.frames_of(learnt)
            trainer = FlowTrainer(
                n_epochs=resolve_n_epochs(n_epochs, len(frames), int(self.batch_size)),
                batch_size=int(self.batch_size),
                learning_rate=float(self.learning_rate),
                lr_schedule=lr_schedule,
                weight_decay=float(self.weight_decay),
                max_grad_norm=None if self.max_grad_norm is None else float(self.max_grad_norm),
                precision=training_precision(self.precision, device),
                seed=order_seed + (len(self.history_["loss"]) if is_continued else 0),
                noise=float(self.feature_noise),
                n_threads=n_threads,
                verbose=self.verbose,
                processes=processes,
            )
            if self.whiten and not is_continued and (checkpoint is None or checkpoint.saved is None):
                initialize_whitening(model.flow, features, frames)
            gain = trainer.train(model.flow, features, frames, checkpoint)
            if self._compares() and not keeps_thresholds:  # or else kept thresholds would be of other scores
                compared = score_features(runner, features, training.frames_of(held_out), n_threads=n_threads)
                model.statistics.initialize(maps for *_, maps in compared)
            judged = held_out if self.contamination == "auto" else np.arange(len(rows))
            make_map = MapMaker(runner.map_generator, images.framing)
            scores, peaks = training.score(runner, judged, make_map, n_threads)
        if n_bad := np.sum(~(np.isfinite(scores) & np.isfinite(peaks))):
            raise ValueError(
                f"Training diverged: the scores or maps of {n_bad} training images are not finite. "
                f"Lower learning_rate={self.learning_rate!r}."
            )
        if cache is not None:
            cache.warn()
        self._framing = images.framing
        self._set_fitted(runner, trainer, is_continued, n_epochs)
        if reset:
            warn_of_few(len(rows), len(images.contents or ()), self._holds_out())
        if keeps_thresholds:
            warn_of_kept_thresholds(len(rows), hasattr(self, "calibration_scores_"))
        else:
            self._set_thresholds(scores, peaks)
        images.warn_of_complaints()
        images.warn_of_values(self._trained_values if is_continued else None)
        self._remember(images, is_continued)
        if trainer.n_setbacks:
            warn_of_setbacks(trainer.n_setbacks, self.learning_rate, self.max_grad_norm)
        if checkpoint is not None:
            checkpoint.remove()
        return gain

    def _remember(self, images: ImageCollection, is_continued: bool) -> None:
        """Remember of the training images what later calls compare with."""
        values, contents = images.ranges.summary(), images.contents or set()
        if is_continued:
            for kind, highest in self._trained_values.items():
                values[kind] = max(highest, values.get(kind, highest))
            contents |= self._known_images()
        self._trained_values = values
        # A row for each, as no bytes objects may be in a saved detector.
        self._trained_images = np.frombuffer(b"".join(sorted(contents)), dtype=np.uint8).reshape(
            -1, DIGEST_SIZE
        )

    def _checkpoint_key(
        self, runner: Runner, training: TrainingFeatures, is_continued: bool, started_by: dict[str, Any]
    ) -> dict[str, Any]:
        """All that the outcome of a training depends on."""
        rows = np.arange(len(training.features[0]))
        return {
            **self._training_params(),
            **started_by,
            "config": runner.model.config,
            "flow": runner.model.flow.state_dict() if is_continued else None,
            "features": [digest_of({"": maps}) for maps in in_batches(training.features, rows)],
            "counts": training.counts,
            "holds_out": self._holds_out(),
            "computed_by": [*runner.kernels, str(torch.__version__), __version__],
        }

    def _check_processes(
        self,
        processes: Processes,
        runner: Runner,
        images: ImageCollection,
        rows: NDArray[np.int64],
        n_epochs: int | str,
        lr_schedule: str,
    ) -> None:
        """Check that all processes do the same. Otherwise they would wait for each other, or mix up images."""
        own = {"device", "engine", "n_jobs", "memory", "verbose", "checkpoint", "weights", "random_state"}
        params: dict[str, Any] = self.get_params()  # type: ignore[attr-defined]
        given: dict[str, Any] = {name: repr(value) for name, value in params.items() if name not in own}
        given |= {
            "n_epochs": n_epochs,
            "lr_schedule": lr_schedule,
            "checkpoint is None": self.checkpoint is None,
        }
        given |= {"the number of images": len(rows), "the backbone": runner.fingerprint}
        items: Any = images.items
        if isinstance(items, list | tuple | np.ndarray | Tensor):  # others may be slow to read
            names = [
                os.path.basename(item).encode()
                if isinstance(item := items[row], str | os.PathLike)
                else images.short_digest(images.load(row))
                for row in rows.tolist()
            ]
            given["the images, in their order"] = digest_of({"": names})
        processes.check_alike(given)

    def _hold_out(self, n_images: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to train on, and rows to compare energies with and to set thresholds by."""
        rows = np.arange(n_images)
        if not self._holds_out() or n_images < LEAST_IMAGES:
            return rows, rows
        order = np.random.default_rng(seed).permutation(n_images)
        n_held_out = int(HELD_OUT_SHARE * n_images)
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])

    def _holds_out(self) -> bool:
        """Whether images are held out where there are enough."""
        return self.contamination == "auto" or self._compares()

    def _compares(self) -> bool:
        """Whether scores or maps compare energies with those of held-out images."""
        return "fused" in (self.score_mode, self.map_mode)

    def _draw_seeds(self) -> list[int]:
        """Seeds of the model's weights, and of the order of the training images."""
        # None is not check_random_state's global state: that is the user's, and stays as it is.
        random_state = (
            np.random.RandomState() if self.random_state is None else check_random_state(self.random_state)
        )
        seeds: list[int] = random_state.randint(np.iinfo(np.int32).max, size=2).tolist()
        return seeds

    def _set_fitted(
        self, runner: Runner, trainer: FlowTrainer, is_continued: bool, n_epochs: int | str
    ) -> None:
        self._runner = runner
        self.model_ = runner.model
        self.device_ = runner.device
        self.precision_ = runner.precision
        before = self.history_ if is_continued else {}
        self.history_ = {
            name: np.concatenate([before.get(name, []), values]) for name, values in trainer.history.items()
        }
        self._trained_by = None
        if not is_continued:
            self._trained_by = {
                **self._training_params(),
                "n_epochs": n_epochs,
                "lr_schedule": trainer.lr_schedule,
            }

    def _set_thresholds(self, scores: NDArray[np.float64], peaks: NDArray[np.float64]) -> None:
        if self.contamination == "auto":
            self.offset_ = prediction_limit(scores, AUTO_FPR)
            self.map_threshold_ = -prediction_limit(-peaks, AUTO_FPR)
        else:
            share = float(self.contamination)
            self.offset_ = float(np.percentile(scores, 100 * share))
            self.map_threshold_ = float(np.percentile(peaks, 100 * (1 - share)))
        if hasattr(self, "calibration_scores_"):  # of the model before
            del self.calibration_scores_

    def _model_params(self, size: tuple[int, int]) -> dict[str, Any]:
        strides = check_strides(self.strides)
        hidden = self.cross_conv_hidden_channels
        kernels = check_counts(
            self.kernel_size, "kernel_size", MOST_KERNEL, int(self.n_coupling_blocks), "coupling blocks"
        )
        if any(size % 2 == 0 for size in kernels):
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size!r}.")
        return {
            "input_size": size,
            "cross_conv_hidden_channels": check_counts(
                hidden, "cross_conv_hidden_channels", MOST_HIDDEN, len(strides), "strides"
            ),
            "n_coupling_blocks": int(self.n_coupling_blocks),
            "kernel_sizes": kernels,
            "clamp": float(self.clamp),
            "num_channels": int(self.num_channels),
            "backbone": self.backbone,
            "weights": None if self.weights is None else os.fspath(self.weights),
            "strides": strides,
            "whiten": bool(self.whiten),
            "map_mode": str(self.map_mode),
            "score_mode": str(self.score_mode),
        }

    def _training_params(self) -> dict[str, Any]:
        """Parameters that the flow depends on, beside those of the model."""
        names = [
            "n_epochs", "batch_size", "learning_rate", "lr_schedule", "weight_decay", "max_grad_norm",
            "feature_noise", "precision",
        ]  # fmt: skip
        if self.weights is None and isinstance(self.random_state, int | np.integer):
            names.append("random_state")  # the seed of the backbone too
        image_shape = None if self.image_shape is None else tuple(self.image_shape)
        return {**{name: getattr(self, name) for name in names}, "image_shape": image_shape}

    def _new_model(self, size: tuple[int, int], seed: int) -> CSFlowModel:
        return CSFlowModel(**self._model_params(size), seed=seed)

    def _copy_of_model(self) -> CSFlowModel:
        # The fitted one stays as it is should training fail. torch.compile wraps models.
        model: CSFlowModel = copy.deepcopy(getattr(self.model_, "_orig_mod", self.model_))
        return model

    def _check_model_params(self, size: tuple[int, int]) -> None:
        for name, value in self._model_params(size).items():
            if value != self.model_.config[name]:
                raise ValueError(
                    f"A model that is trained on can't change its {name}: it was "
                    f"{self.model_.config[name]!r}, now it is {value!r}. Set it back, or fit with "
                    "warm_start=False."
                )
        if self._new_framing().key != self._framing.key:
            raise ValueError(
                "A model that is trained on can't change its roi, tile_size, tile_overlap or keep_aspect. Set them "
                "back, or fit with warm_start=False."
            )
