"""The scikit-learn estimator. No tensor maths here."""

import copy
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from skcsflow._cache import open_cache
from skcsflow._calibrated import CalibrationMixin
from skcsflow._device import parameter_dtype, resolve_device
from skcsflow._features import ImageFeatures, ImageScores, extract_features, score_features, score_images
from skcsflow._images import ImageCollection, check_images, check_rows, is_row_matrix, resolve_image_shape
from skcsflow._maps import MapsMixin, fuse_map
from skcsflow._openvino import check_engine
from skcsflow._persistence import pack_model, place_model, unpack_model
from skcsflow._storage import gather_features, in_batches
from skcsflow._training import FlowTrainer
from skcsflow._validation import (
    PAPER_PARAMS,
    PARAMETER_CONSTRAINTS,
    check_feature_smoothing,
    check_image_shape,
    check_input_size,
    normal_rows,
)
from skcsflow.nn import CSFlowModel

__all__ = ["PAPER_PARAMS", "CSFlowDetector"]

DOCUMENTATION = "https://skcsflow.readthedocs.io/en/stable/generated/{estimator_module}.{estimator_name}.html"


_BEFORE = {
    "engine": "torch",
    "feature_noise": 0.0,
    "feature_smoothing": 1,
    "map_smoothing": 0.0,
    "map_size": "auto",
    "score_mode": "mean",
}
"""What detectors did before there were these parameters; files of theirs lack them."""


class CSFlowDetector(CalibrationMixin, MapsMixin, OutlierMixin, BaseEstimator):
    """Image anomaly detection with cross-scale flows (CS-Flow).

    Learns from images of good parts alone. A frozen network turns each image into
    feature maps at three scales, a normalizing flow learns their density, and what the
    flow finds unlikely is anomalous, as a whole (scores) and place by place (maps).

    Read more in the :doc:`user guide </quickstart>`.

    Parameters
    ----------
    n_coupling_blocks : int, default=4
        Number of coupling blocks of the flow.
    cross_conv_hidden_channels : int, default=64
        Hidden channels of the flow's subnets; the paper has 1024.
    clamp : float, default=3.0
        Bound of the flow's log-scales.
    num_channels : int, default=3
        Channels that images have. With 3, grey images are repeated to three channels
        and a fourth channel (alpha) is dropped. Anything else, such as 12 for
        multispectral images, must be matched exactly.
    backbone : str, default="tf_efficientnet_lite0"
        timm's name of the feature network.
    weights : "auto", path or None, default="auto"
        Weights of the backbone. ``"auto"``: ImageNet weights, which for
        ``tf_efficientnet_lite0`` come with this package's dependencies, for
        ``tf_efficientnet_lite1`` and ``2`` with the extra ``lite``, and for others
        from timm's local cache or its hub. A path: a local state dict. None: random.
    input_size : int or tuple of int (H, W), default=256
        Size in pixels that images are resized to, 32 or more.
    whiten : bool, default=True
        Whether the features are whitened before the flow; the paper's are not.
    feature_noise : float, default=0.5
        Standard deviation of white noise that is added to the (whitened) features in
        training. A few hundred images don't determine a density sharply: without noise
        the flow sharpens it around them, and calls new good images strange. The paper
        has none.
    feature_smoothing : int, default=1
        Side of the square of neighbouring positions that features are averaged over, at
        each scale; odd. 1 leaves them as they are, as in the paper. 3 can find faint and
        wide-spread defects better, and blurs the maps.
    n_epochs : int, default=8
        Passes over the training images.
    batch_size : int, default=16
        Images per training step.
    learning_rate : float, default=2e-3
        Learning rate of Adam; the highest one of a one-cycle schedule.
    lr_schedule : {"one_cycle", "constant"}, default="one_cycle"
        How the learning rate changes from step to step; constant in the paper.
    weight_decay : float, default=1e-5
        L2 penalty of Adam.
    max_grad_norm : float or None, default=1.0
        Norm that gradients are cut down to; None leaves them as they are.
    contamination : float, default=0.01
        Share of the training images that `predict` calls anomalous, in (0, 0.5]. It
        sets `offset_` and, with the highest values of the maps, `map_threshold_`. Fresh
        images are called anomalous more often; see :meth:`calibrate`.
    score_mode : {"mean", "top"}, default="mean"
        What a score is the mean over: the whole image at all scales, as in the paper, or
        the fifth of the positions of all scales that is most anomalous. The latter had a
        higher AUROC in the study of this package. Takes effect at `fit`.
    map_mode : {"max", "all"}, default="max"
        How the scales' anomaly maps become one: the largest scale alone, as in the paper,
        or their product, as in anomalib. The former lies closer on defects.
    map_smoothing : float, default=0.0
        Standard deviation of a Gaussian that maps are smoothed by, in pixels of images of
        `input_size`. The paper has none.
    map_size : {"auto", "image"}, default="auto"
        Size of the maps that `transform` gives for images of several sizes:
        `input_size`, or each image's own, in an array of arrays.
    image_shape : tuple of int (H, W) or (H, W, C), default=None
        Shape of the images in the rows of a 2-D X. None: a square grey image where the
        rows' length is a square number, and a strip one pixel high otherwise.
    memory : None, path or joblib.Memory, default=None
        Where features of images are kept between calls, fits, processes and sessions:
        nowhere, in a folder, or in a :class:`joblib.Memory`, as in scikit-learn's
        Pipeline. Every image that is fitted on or scored is kept, and found again
        by its content, whatever call, fold or order it comes in. See
        :func:`feature_cache_info`. In a folder, `fit` also reads the training features
        from temporary files there, so that they need not fit into memory.
    store_backbone : bool, default=True
        Whether a saved detector holds the backbone's weights. Where not, loading it
        finds them again as `weights` says, without network access, and checks that
        they are the same. Needs `weights` other than None.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` takes CUDA where there is one and the `engine` can
        use it, else the CPU.
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        Precision to compute in. Scores are summed in float64 always. bfloat16 pays on
        GPUs, and on processors with AMX. On other x86 processors it is slower than
        float32, and the flow is trained in float32.
    engine : {"torch", "openvino"}, default="torch"
        What runs the backbone, and the flow where images are scored. OpenVINO, in the
        extra ``openvino``, is faster on the CPU, above all with large networks, and
        gives other last digits. The flow is trained by torch always.
    n_jobs : int, default=None
        Threads that read images, and on the CPU score them. None: as many as torch
        uses; -1: one per core. Scores don't depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of the flow's initial weights and of the order of images in training, and
        of the backbone where `weights` is None. An int gives the same results bit for
        bit in every fit on one device.
    warm_start : bool, default=False
        Whether `fit` goes on training the flow of the fit before.
    verbose : int, default=0
        Whether to show the training's progress.

    Attributes
    ----------
    model_ : CSFlowModel
        The fitted model.
    offset_ : float
        ``decision_function`` is ``score_samples`` less this.
    map_threshold_ : float
        Pixels whose map is above this are anomalous. A share `contamination` of the
        training images has such pixels, at the images' own size.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Sorted scores of the normal images of :meth:`calibrate`. Only after it.
    history_ : dict of str to ndarray of shape (n_epochs,)
        ``loss``, ``grad_norm``, ``learning_rate`` and ``seconds`` of each epoch that
        the model was trained for.
    device_ : torch.device
        The device that is used.
    precision_ : str
        The precision that is used.
    image_shape_ : tuple of int or None
        Shape of the images in the rows of X, where X was 2-D.
    n_features_in_ : int
        Length of the rows of X. Only where X was 2-D.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X. Only where X was a DataFrame of numbers.

    References
    ----------
    M. Rudolph, T. Wehrbein, B. Rosenhahn, B. Wandt: Fully Convolutional
    Cross-Scale-Flows for Image-based Defect Detection, WACV 2022.

    Examples
    --------
    >>> from skcsflow import CSFlowDetector
    >>> from skcsflow.datasets import make_defects
    >>> data = make_defects(n_normal=24, n_defective=8, random_state=0)
    >>> detector = CSFlowDetector(input_size=128, n_epochs=2, random_state=0)
    >>> detector = detector.fit(data.images[:16])
    >>> detector.predict(data.images[16:]).shape
    (16,)
    >>> detector.transform(data.images[16:]).shape == data.images[16:].shape[:3]
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETER_CONSTRAINTS
    _doc_link_module = "skcsflow"
    _doc_link_template = DOCUMENTATION

    image_shape_: tuple[int, ...] | None
    history_: dict[str, NDArray[np.float64]]

    def __init__(
        self,
        *,
        n_coupling_blocks: int = 4,
        cross_conv_hidden_channels: int = 64,
        clamp: float = 3.0,
        num_channels: int = 3,
        backbone: str = "tf_efficientnet_lite0",
        weights: str | os.PathLike[str] | None = "auto",
        input_size: int | tuple[int, int] = 256,
        whiten: bool = True,
        feature_noise: float = 0.5,
        feature_smoothing: int = 1,
        n_epochs: int = 8,
        batch_size: int = 16,
        learning_rate: float = 2e-3,
        lr_schedule: str = "one_cycle",
        weight_decay: float = 1e-5,
        max_grad_norm: float | None = 1.0,
        contamination: float = 0.01,
        score_mode: str = "mean",
        map_mode: str = "max",
        map_smoothing: float = 0.0,
        map_size: str = "auto",
        image_shape: tuple[int, ...] | None = None,
        memory: Any = None,
        store_backbone: bool = True,
        device: str | torch.device = "auto",
        precision: str = "float32",
        engine: str = "torch",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_coupling_blocks = n_coupling_blocks
        self.cross_conv_hidden_channels = cross_conv_hidden_channels
        self.clamp = clamp
        self.num_channels = num_channels
        self.backbone = backbone
        self.weights = weights
        self.input_size = input_size
        self.whiten = whiten
        self.feature_noise = feature_noise
        self.feature_smoothing = feature_smoothing
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.contamination = contamination
        self.score_mode = score_mode
        self.map_mode = map_mode
        self.map_smoothing = map_smoothing
        self.map_size = map_size
        self.image_shape = image_shape
        self.memory = memory
        self.store_backbone = store_backbone
        self.device = device
        self.precision = precision
        self.engine = engine
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Learn what normal images look like.

        Parameters
        ----------
        X : array-like of images
            Images of good parts: an array of shape (n, H, W) or (n, H, W, C); a tensor
            of shape (n, C, H, W); a sequence of paths, PIL images or arrays of any
            sizes; or a 2-D array of shape (n, n_features) whose rows are flattened
            images of `image_shape`. Integers are scaled by the range of their type;
            floats are taken as they are and should lie between 0 and 1.
        y : array-like of shape (n,), default=None
            Where its labels are exactly +1 and -1, rows labelled -1 (known defects)
            are left out. Any other y is ignored.

        Returns
        -------
        CSFlowDetector
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            Where a parameter or an image can't be used, naming it; or where the
            training diverges.
        OSError
            Where the backbone's weights can't be had.
        """
        go_on = self.warm_start and self.__sklearn_is_fitted__()
        return self._train(
            X, y, reset=True, go_on=go_on, n_epochs=self.n_epochs, lr_schedule=self.lr_schedule
        )

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Train for one epoch more, at a constant learning rate.

        The first call makes the model and whitens features by these images. Each call
        sets `offset_` and `map_threshold_` by the images that it is given, adds to
        `history_`, and forgets a calibration.

        Parameters
        ----------
        X : array-like of images
            Images of good parts, see :meth:`fit`.
        y : array-like of shape (n,), default=None
            Labels, see :meth:`fit`.

        Returns
        -------
        CSFlowDetector
            The estimator itself.

        Raises
        ------
        ValueError, TypeError, OSError
            As :meth:`fit` does; and where a parameter that shapes the model was changed
            since the first call.
        """
        self._validate_params()  # which scikit-learn leaves out in later calls
        go_on = self.__sklearn_is_fitted__()
        return self._train(X, y, reset=not go_on, go_on=go_on, n_epochs=1, lr_schedule="constant")

    def _train(self, X: Any, y: ArrayLike | None, **how: Any) -> Self:
        before = dict(vars(self))
        try:
            return self._train_unguarded(X, y, **how)
        except BaseException:  # what failed or was interrupted must not leave a half-new detector
            self.__dict__ = before
            raise

    def _train_unguarded(
        self, X: Any, y: ArrayLike | None, *, reset: bool, go_on: bool, n_epochs: int, lr_schedule: str
    ) -> Self:
        size = check_input_size(self.input_size)
        check_image_shape(self.image_shape)
        check_feature_smoothing(self.feature_smoothing)
        if self.weights is None and not self.store_backbone:
            raise ValueError(
                "store_backbone=False needs weights that can be found again, but weights=None are random."
            )
        device = _resolve_device(self.device, self.engine)
        check_engine(self.engine, self.precision, device)
        images = self._check_X(X, reset=reset)
        rows = normal_rows(y, len(images))
        # None is not check_random_state's global state: that is the user's, and stays as it is.
        random_state = (
            np.random.RandomState() if self.random_state is None else check_random_state(self.random_state)
        )
        model_seed, order_seed = random_state.randint(np.iinfo(np.int32).max, size=2).tolist()
        model = self._continued_model(size) if go_on else self._new_model(size, model_seed)
        model = place_model(model, device, parameter_dtype(self.precision))
        computing: dict[str, Any] = {
            "precision": self.precision,
            "n_jobs": self.n_jobs,
            "engine": self.engine,
        }
        training = {**self._training_params(), "n_epochs": n_epochs, "lr_schedule": lr_schedule}
        trainer = FlowTrainer(
            n_epochs=n_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lr_schedule=lr_schedule,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            precision=self.precision,
            seed=order_seed + (len(self.history_["loss"]) if go_on else 0),  # other orders than before
            noise=self.feature_noise,
            verbose=self.verbose,
        )
        cache = open_cache(self.memory)
        folder = None if cache is None else cache.folder
        sizes: list[tuple[int, int]] = []

        def maps_of(items: Iterable[ImageFeatures]) -> Iterator[list[Tensor]]:
            for item in items:
                sizes.append(item.size)
                yield item.maps

        with (
            closing(extract_features(model, images, rows, cache=cache, **computing)) as items,
            gather_features(maps_of(items), len(rows), device, folder) as features,
        ):
            if self.whiten and not go_on:
                model.flow.initialize_whitening(in_batches(features))
            trainer.train(model.flow, features)
            scores, peaks = np.empty((2, len(rows)))  # a map at a time: those of all would fill the memory
            with closing(score_features(model, features, **computing)) as scored:
                for i, (anomaly_score, scale_maps) in enumerate(scored):
                    scores[i], peaks[i] = -anomaly_score, fuse_map(model, scale_maps, sizes[i]).max()
        if not np.isfinite(scores).all():
            raise ValueError(
                f"Training diverged: {np.sum(~np.isfinite(scores))} training scores are not finite. "
                f"Lower learning_rate={self.learning_rate!r}."
            )
        self.model_ = model
        self.device_ = device
        self.precision_ = self.precision
        self._trained_by = None if go_on else training
        before = self.history_ if go_on else {}
        self.history_ = {
            name: np.concatenate([before.get(name, []), values]) for name, values in trainer.history.items()
        }
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        self.map_threshold_ = float(np.percentile(peaks, 100 * (1 - self.contamination)))
        if hasattr(self, "calibration_scores_"):  # of the model before
            del self.calibration_scores_
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Score how normal images are.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            Minus the paper's anomaly score, ``-mean(z ** 2) / 2`` (equation 7); with
            ``score_mode="top"`` the mean over the most anomalous positions alone. Higher
            is more normal. A row's score doesn't depend on the other rows.
        """
        return np.array([-s.anomaly_score for s in self._score_images(X)])

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Score how normal images are, with 0 as the threshold.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            ``score_samples(X) - offset_``; negative where anomalous.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Tell normal from anomalous images.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), int64
            +1 for normal images, -1 for anomalous ones.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X: Any, y: ArrayLike | None = None) -> NDArray[np.int64]:
        """Fit, and tell normal from anomalous images among the same.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.
        y : array-like of shape (n,), default=None
            Labels, see :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,), int64
            +1 for normal images, -1 for anomalous ones.
        """
        return self.fit(X, y).predict(X)  # scikit-learn's own drops y

    def score(self, X: Any, y: ArrayLike | None = None) -> float:
        """Compute the mean log-likelihood of images, for model selection without labels.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.
        y : array-like of shape (n,), default=None
            Where its labels are exactly +1 and -1, rows labelled -1 are left out, as in
            :meth:`fit`. Any other y is ignored.

        Returns
        -------
        float
            Log-likelihood of the images' features, per dimension (nats), averaged over
            the images. Comparable between flows, not between backbones, input
            sizes or values of `feature_smoothing`. The same whatever `score_mode`.
        """
        log_likelihoods = np.array([s.log_likelihood for s in self._score_images(X)])
        return float(log_likelihoods[normal_rows(y, len(log_likelihoods))].mean())

    def _score_images(self, X: Any) -> Iterator[ImageScores]:
        check_is_fitted(self)
        check_engine(self.engine, self.precision_, self.device_)
        images = self._check_X(X, reset=False)
        return score_images(
            self.model_,
            images,
            precision=self.precision_,
            n_jobs=self.n_jobs,
            engine=self.engine,
            cache=open_cache(self.memory),
        )

    def _check_X(self, X: Any, *, reset: bool) -> ImageCollection:
        num_channels: int = self.num_channels if reset else self.model_.config["num_channels"]
        if is_row_matrix(X):
            check_rows(X)
            # Each image is checked to be finite when it is read, by a message that names its row.
            X = validate_data(self, X, reset=reset, ensure_all_finite=False)
            given = self.image_shape if reset else self.image_shape_ or self.image_shape
            if given is None and not reset:
                raise ValueError(
                    f"X has shape {X.shape}, which is read as flattened images, but this detector was fitted "
                    "on images. Pass a single image as X[None], or set image_shape."
                )
            shape = resolve_image_shape(given, X.shape[1])
            if reset:
                self.image_shape_ = shape
            return ImageCollection(X, num_channels, row_shape=shape)
        if reset:
            self.image_shape_ = None
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(self, name):
                    delattr(self, name)
        return check_images(X, num_channels)

    def _model_params(self, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "input_size": size,
            "cross_conv_hidden_channels": self.cross_conv_hidden_channels,
            "n_coupling_blocks": self.n_coupling_blocks,
            "clamp": float(self.clamp),
            "num_channels": self.num_channels,
            "backbone": self.backbone,
            "weights": None if self.weights is None else os.fspath(self.weights),
            "whiten": bool(self.whiten),
            "feature_smoothing": int(self.feature_smoothing),
            "map_mode": str(self.map_mode),
            "map_smoothing": float(self.map_smoothing),
            "score_mode": str(self.score_mode),
        }

    def _training_params(self) -> dict[str, Any]:
        """Parameters that the flow depends on, beside those of the model."""
        names = [
            "n_epochs", "batch_size", "learning_rate", "lr_schedule", "weight_decay", "max_grad_norm",
            "feature_noise", "precision", "image_shape",
        ]  # fmt: skip
        if self.weights is None and isinstance(self.random_state, int | np.integer):
            names.append("random_state")  # the seed of the backbone too
        return {name: getattr(self, name) for name in names}

    def _new_model(self, size: tuple[int, int], seed: int) -> CSFlowModel:
        return CSFlowModel(**self._model_params(size), seed=seed)

    def _continued_model(self, size: tuple[int, int]) -> CSFlowModel:
        self._check_model_params(size)
        return copy.deepcopy(self.model_)  # the fitted one stays as it is should training fail

    def _check_model_params(self, size: tuple[int, int]) -> None:
        for name, value in self._model_params(size).items():
            if value != self.model_.config[name]:
                raise ValueError(
                    f"A model that is trained on can't change its {name}: it was "
                    f"{self.model_.config[name]!r}, now it is {value!r}."
                )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # maps are float32 whatever X is
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:
            model = state["model_"]
            # Random weights could not be found again, whatever store_backbone became after fit.
            with_backbone = self.store_backbone or model.config["weights"] is None
            state["model_"] = pack_model(model, with_backbone=with_backbone)
            del state["device_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {**_BEFORE, **state}
        if "model_" in state:
            try:
                device = _resolve_device(state["device"], state["engine"])
            except ValueError:  # fitted on a GPU that this machine doesn't have
                device = torch.device("cpu")
            state["model_"] = unpack_model(state["model_"], device)
            state["device_"] = device
        super().__setstate__(state)


def _resolve_device(device: str | torch.device, engine: str) -> torch.device:
    return resolve_device("cpu" if device == "auto" and engine == "openvino" else device)  # which has no GPU
