"""The scikit-learn estimator: its parameters, its methods that fit, and its scores. No tensor maths here."""

import os
from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from skcsflow._checks import fit_context, warn
from skcsflow._compute import (
    Runner,
    check_engine,
    on_new_thread,
    resolve_device,
    resolve_n_threads,
)
from skcsflow._detector._fitting import FittingMixin
from skcsflow._detector._inspection import InspectionMixin
from skcsflow._detector._maps import MapsMixin
from skcsflow._detector._parameters import (
    PARAMETER_CONSTRAINTS,
    check_input_size,
    check_parameters_in_use,
    check_value_range,
)
from skcsflow._detector._persistence import (
    digest_of_state,
    pack_model,
    unpack_model,
    warn_of_other_versions,
)
from skcsflow._detector._progress import with_progress
from skcsflow._detector._thresholds import ThresholdsMixin
from skcsflow._detector._warnings import warn_unless_learnt
from skcsflow._features import FeatureCache, open_cache
from skcsflow._images import (
    MAX_PIXELS,
    Framing,
    ImageCollection,
    check_images,
    check_rows,
    is_row_matrix,
    resolve_image_shape,
)
from skcsflow._labels import normal_rows
from skcsflow._scoring import ImageScores, score_images

__all__ = ["CSFlowDetector"]

DOCUMENTATION = "https://skcsflow.readthedocs.io/en/stable/generated/{estimator_module}.{estimator_name}.html"


class CSFlowDetector(
    FittingMixin, ThresholdsMixin, MapsMixin, InspectionMixin, OutlierMixin, TransformerMixin, BaseEstimator
):
    """Image anomaly detection with cross-scale flows (CS-Flow).

    Learns from images of good parts alone. A frozen network turns each image into
    feature maps at several scales, a normalizing flow learns their density, and what the
    flow finds unlikely is anomalous, as a whole (scores) and place by place (maps).

    Read more in the :doc:`user guide </quickstart>`.

    Parameters
    ----------
    input_size : int or tuple of int (H, W), default=256
        Size in pixels that images are resized to, or their tiles, 32 or more. Acts in `fit`.
    roi : tuple of int, array-like of shape (H, W), path or None, default=None
        Region of interest, in the images' own pixels: a box (min_row, min_col, max_row, max_col), or a mask of the
        images' size, as an array, PIL image or image file, that isn't 0 where to look. What lies beside it is not
        seen, and never anomalous. None: all of each image. Acts in `fit`.
    tile_size : int or tuple of int (H, W), default=None
        For small defects in large images: height and width in the images' own pixels of tiles that go through the
        network one by one, each 8 or more. An image scores as its most anomalous tile. None: the whole image at once.
        See :doc:`/large_images`. Acts in `fit`.
    tile_overlap : float, default=0.25
        Share of a tile by which it overlaps the next one, at least; 0 to 0.9. Acts in `fit`.
    keep_aspect : bool, default=False
        Whether images, or tiles, keep their aspect ratio: grey bars fill what remains of `input_size`. Acts in
        `fit`.
    num_channels : int, default=3
        Channels that images have. With 3, grey images are repeated to three channels
        and a fourth channel (alpha) is dropped. Anything else, such as 12 for
        multispectral images, must be matched exactly. Acts in `fit`.
    image_shape : tuple of int (H, W) or (H, W, C), default=None
        Shape of the images in the rows of a 2-D X. None: a square grey image where the
        rows' length is a square number, and a strip one pixel high otherwise. Acts in
        `fit`, and after a fit on images whenever rows are passed.
    value_range : tuple of float (low, high), default=None
        Values of black and white in the images, such as (0, 4095) for 12-bit cameras whose images come in
        16-bit files. None: integers are scaled by the range of their type, and floats are taken as they
        are, black being 0 and white 1. Images that can't be meant so give a warning, but for rows of a
        2-D X. Acts in every call.
    on_error : {"raise", "nan"}, default="raise"
        What to do where an image can't be read. ``"raise"``: an error; of paths it comes before any work,
        and lists all that don't begin as images do. ``"nan"``: go on without it, with a warning that lists
        such images. Their scores and maps are NaN, `predict` gives -1, and `fit` and `calibrate` leave them
        out. Acts in every call.
    max_pixels : int or None, default=160,000,000
        Height times width that an image file may have, a mask of `roi` too. The header is looked at before anything
        is decoded, as a small file may claim to have more pixels than there is memory. None: any number. Arrays
        may be of any size. Acts in every call.
    backbone : str, default="tf_efficientnet_lite0"
        timm's name of the feature network. Acts in `fit`.
    weights : "auto", path or None, default="auto"
        Weights of the backbone. ``"auto"``: ImageNet weights, which for
        ``tf_efficientnet_lite0`` come with this package's dependencies, for
        ``tf_efficientnet_lite1`` and ``2`` with the extra ``lite``, and for others
        from timm's local cache or its hub. A path: a local state dict. None: random.
        Acts in `fit`.
    strides : sequence of int, default=(8, 16, 32, 64)
        Strides of the flow's scales against the image, each twice the one before; the paper's
        are (32, 64, 128). Those up to 32 are stages of one pass of the backbone. Larger ones
        come from the image at half, a quarter, ... of its size. The smallest stride of a vision
        transformer is the size of its patches, and all others come so. Acts in `fit`.
    n_coupling_blocks : int, default=2
        Number of coupling blocks of the flow; the paper has 4. Acts in `fit`.
    cross_conv_hidden_channels : int or sequence of int, default=32
        Hidden channels of the flow's subnets, of all scales or of each; the paper has 1024.
        Acts in `fit`.
    kernel_size : int or sequence of int, default=3
        Odd kernel size of the flow's convolutions, of all coupling blocks or of each; 3, 3, 3
        and 5 in the paper. Acts in `fit`.
    clamp : float, default=3.0
        Bound of the flow's log-scales. Acts in `fit`.
    whiten : bool, default=True
        Whether the features are whitened before the flow; the paper's are not. Acts in
        `fit`.
    n_epochs : int or "auto", default="auto"
        Passes over the training images, or all of their tiles. ``"auto"``: as many as make 600 steps,
        however many there are. What the flow has learnt depends on the steps. Acts in `fit`.
    batch_size : int, default=8
        Images, or tiles, per training step. Acts in `fit` and `partial_fit`.
    learning_rate : float, default=4e-3
        Learning rate of Adam; the highest one of a one-cycle schedule. Acts in `fit` and
        `partial_fit`.
    lr_schedule : {"one_cycle", "constant"}, default="one_cycle"
        How the learning rate changes from step to step; constant in the paper. Acts in
        `fit`.
    weight_decay : float, default=1e-5
        L2 penalty of Adam. Acts in `fit` and `partial_fit`.
    max_grad_norm : float or None, default=1.0
        Norm that gradients are clipped to; None leaves them as they are. Acts in `fit`
        and `partial_fit`.
    feature_noise : float, default=0.25
        Standard deviation of white noise that is added to the (whitened) features in
        training. Without it the flow fits a few hundred images too closely, and calls
        good images that it has not seen anomalous. The paper has none. Acts in `fit` and
        `partial_fit`.
    warm_start : bool, default=False
        Whether `fit` continues the training of the flow of the fit before.
    random_state : int, RandomState instance or None, default=None
        Seed of the flow's initial weights and of the order of images in training, and
        of the backbone where `weights` is None. An int gives the same results bit for
        bit in every fit on one device.
    contamination : float or "auto", default="auto"
        Sets `offset_` and, by the highest values of the maps, `map_threshold_`. ``"auto"``: about
        5 % of fresh good images are called anomalous, and about as many have anomalous
        pixels; by a fifth of the training images, which is held out of the training (see
        :func:`~skcsflow.calibration.prediction_limit`). A number in (0, 0.5]: the share of the
        training images that is called anomalous; of fresh images more are. See also
        :meth:`calibrate`. Acts in `fit`, `partial_fit` and `calibrate`.
    score_mode : {"fused", "mean"}, default="fused"
        How an image's energies become a score: by the highest ones of each scale and the mean of
        the coarsest, compared with those of good images
        (:class:`~skcsflow.nn.EnergyStatistics`), or by the mean over the whole image at all
        scales, as in the paper. For the former, a fifth of the training images is held out.
        Acts in `fit`.
    map_mode : {"fused", "max", "all"}, default="fused"
        How the scales' anomaly maps become one: the sum of the two largest scales',
        compared with those of good images and smoothed; the largest scale alone, as in
        the paper; or the product of all, as in anomalib. Acts in `fit`.
    memory : None, path or joblib.Memory, default=None
        Where features of images are kept between calls, fits, processes and sessions:
        nowhere, in a folder, or in a :class:`joblib.Memory`, as in scikit-learn's
        Pipeline. Every image that is fitted on or scored is kept, and found again
        by its content, whatever call, fold or order it comes in. See
        :func:`feature_cache_info`. In a folder, `fit` also reads the training features
        from temporary files there, so that they need not fit into memory. Acts in every
        call.
    checkpoint : path or None, default=None
        A folder where the state of a training is saved as it goes, which takes a twentieth of its time at most. Where
        the training is cut short, by an interrupt or by the end of the process, the next `fit` with the same
        parameters and images goes on from there, and ends with the same model bit for bit. The file is
        removed once `fit` is done. Trainings that differ have files of their own, so that all fits of a search may
        share a folder. Acts in `fit` and `partial_fit`.
    distributed : bool, default=False
        Whether `fit` shares its work with the other processes of torch.distributed's default group, which all make the
        same call: each extracts the features of its share of the images, and computes the gradient of its
        share of each batch. All end with the same detector; see :doc:`/scale`. Acts in `fit` and `partial_fit`.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` takes CUDA where there is one and the `engine` can
        use it, else the CPU. Acts in `fit`, and when a saved detector is loaded.
    precision : {"auto", "float32", "tf32", "bfloat16", "float64"}, default="auto"
        Precision to compute in. ``"auto"``: TF32 on GPUs that have it, else float32; on
        processors with AMX, training runs in bfloat16. ``"float32"`` is IEEE's, without TF32.
        bfloat16 pays on GPUs, and on processors with AMX; on other x86 processors it is
        slower than float32, and the flow is trained in float32. Scores are summed in
        float64 always. Acts in `fit`.
    engine : {"torch", "openvino"}, default="torch"
        What runs the backbone, and the flow where images are scored. OpenVINO, in the
        extra ``openvino``, is faster on the CPU, above all with large networks, and
        gives other last digits. The flow is trained by torch always. Acts in every call.
    n_jobs : int, default=None
        Threads, of one core each, that read and score images and train the flow. None: as
        many as torch uses; -1: one per core. Training uses two at most with batches of up
        to 16 images, and one for every eight of a larger batch. Results don't depend on
        it. Acts in every call.
    verbose : int, default=0
        Whether to show progress on standard error: of reading images and extracting features, of the
        training, and of scoring, each with its rate and the time that is left. Acts in every call.

    Attributes
    ----------
    model_ : CSFlowModel
        The fitted model.
    offset_ : float
        ``decision_function`` is ``score_samples`` less this.
    map_threshold_ : float
        Images whose map is above this anywhere have anomalous pixels, see :meth:`predict_masks`. A share
        `contamination` of the training images has, at the images' own size.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Sorted scores of the normal images of :meth:`calibrate`. Only after it.
    history_ : dict of str to ndarray of shape (n_epochs,)
        ``loss``, ``grad_norm``, ``learning_rate`` and ``seconds`` of each epoch that
        the model was trained for.
    device_ : torch.device
        The device that is used.
    precision_ : str
        The precision that images are scored in. Training is in the same, but see `precision`.
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
    _framing: Framing  # which parts of images the model was fitted on
    _trained_values: dict[str, float]  # highest value of the training images of each type, scaled
    _trained_images: NDArray[np.uint8]  # digests of what was fitted on, one a row

    def __init__(
        self,
        *,
        input_size: int | tuple[int, int] = 256,
        roi: ArrayLike | str | os.PathLike[str] | None = None,
        tile_size: int | tuple[int, int] | None = None,
        tile_overlap: float = 0.25,
        keep_aspect: bool = False,
        num_channels: int = 3,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        on_error: str = "raise",
        max_pixels: int | None = MAX_PIXELS,
        backbone: str = "tf_efficientnet_lite0",
        weights: str | os.PathLike[str] | None = "auto",
        strides: Sequence[int] = (8, 16, 32, 64),
        n_coupling_blocks: int = 2,
        cross_conv_hidden_channels: int | Sequence[int] = 32,
        kernel_size: int | Sequence[int] = 3,
        clamp: float = 3.0,
        whiten: bool = True,
        n_epochs: int | str = "auto",
        batch_size: int = 8,
        learning_rate: float = 4e-3,
        lr_schedule: str = "one_cycle",
        weight_decay: float = 1e-5,
        max_grad_norm: float | None = 1.0,
        feature_noise: float = 0.25,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        contamination: float | str = "auto",
        score_mode: str = "fused",
        map_mode: str = "fused",
        memory: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        distributed: bool = False,
        device: str | torch.device = "auto",
        precision: str = "auto",
        engine: str = "torch",
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.input_size = input_size
        self.roi = roi
        self.tile_size = tile_size
        self.tile_overlap = tile_overlap
        self.keep_aspect = keep_aspect
        self.num_channels = num_channels
        self.image_shape = image_shape
        self.value_range = value_range
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.backbone = backbone
        self.weights = weights
        self.strides = strides
        self.n_coupling_blocks = n_coupling_blocks
        self.cross_conv_hidden_channels = cross_conv_hidden_channels
        self.kernel_size = kernel_size
        self.clamp = clamp
        self.whiten = whiten
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.feature_noise = feature_noise
        self.warm_start = warm_start
        self.random_state = random_state
        self.contamination = contamination
        self.score_mode = score_mode
        self.map_mode = map_mode
        self.memory = memory
        self.checkpoint = checkpoint
        self.distributed = distributed
        self.device = device
        self.precision = precision
        self.engine = engine
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Learn what normal images look like.

        Parameters
        ----------
        X : array-like of images
            Images of good parts: an array of shape (n, H, W) or (n, H, W, C); a tensor
            of shape (n, C, H, W); the path of a folder; a sequence of paths, PIL images or
            arrays of any sizes, or anything else with a length and items; or a 2-D array of shape
            (n, n_features) whose rows are flattened images of `image_shape`. See :doc:`/data`.
            Integers are scaled by the range of their type; floats are taken as they are and
            should lie between 0 and 1; `value_range` says otherwise.
        y : array-like of shape (n,), default=None
            Labels. Known defects are left out of the training: -1 among +1/-1, 1 among
            0/1, True among booleans, and any string but ``"good"`` and ``"normal"`` where one
            of these is among them. Another y is an error; where X is a 2-D array of numbers it is
            ignored, as scikit-learn's other outlier detectors do.

        Returns
        -------
        CSFlowDetector
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            Where a parameter, an image or a label can't be used, naming it; or where the
            training diverges.
        OSError
            Where the backbone's weights can't be had.
        """
        is_continued = self.warm_start and self.__sklearn_is_fitted__()
        gain = self._fit(
            X,
            y,
            reset=True,
            is_continued=is_continued,
            n_epochs=self.n_epochs,
            lr_schedule=self.lr_schedule,
        )
        if not is_continued:
            warn_unless_learnt(gain, len(self.history_["loss"]))
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Train for one epoch more, at a constant learning rate.

        The first call makes the model and whitens features by these images. Each call adds to
        `history_`. A call with 10 images or more sets `offset_` and `map_threshold_` by these, unless
        :meth:`calibrate` has set them. Otherwise they stay as they were, with a warning: they are those of the
        model before, which differs a little.

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
        is_continued = self.__sklearn_is_fitted__()
        self._fit(
            X,
            y,
            reset=not is_continued,
            is_continued=is_continued,
            n_epochs=1,
            lr_schedule="constant",
        )
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
            Higher is more normal. By default minus how far the highest energies of each scale, and
            all of the coarsest, are above those of good images (:class:`~skcsflow.nn.EnergyStatistics`); with
            ``score_mode="mean"`` minus the paper's anomaly score, ``-mean(z ** 2) / 2``
            (equation 7). A row's score doesn't depend on the other rows.
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
            +1 for normal images, -1 for anomalous ones, and those that can't be read.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

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
            Labels, see :meth:`fit`. Known defects are left out.

        Returns
        -------
        float
            Log-likelihood of the images' features, per dimension (nats), averaged over
            the images. Comparable between flows, not between backbones or input
            sizes. The same whatever `score_mode`.
        """
        log_likelihoods = self._log_likelihoods(X, y)
        return float(log_likelihoods.mean()) if len(log_likelihoods) else np.nan

    def _log_likelihoods(self, X: Any, y: ArrayLike | None = None) -> NDArray[np.float64]:
        """Of the images that can be read and aren't known defects."""
        log_likelihoods = np.array([s.log_likelihood for s in self._score_images(X)])
        of_normal = log_likelihoods[normal_rows(y, len(log_likelihoods), is_table=is_row_matrix(X))]
        return of_normal[~np.isnan(of_normal)]

    def _score_images(
        self, X: Any, *, are_fresh: bool = False, first_row: int = 0
    ) -> Generator[ImageScores, None, None]:
        """Score images; with `are_fresh`, they should be none that were fitted on. Messages count from `first_row`."""
        check_is_fitted(self)
        check_parameters_in_use(self)
        check_engine(self.engine, self.precision_, self.device_)
        images = self._check_X(X, reset=False, first_row=first_row)
        n_threads = resolve_n_threads(self.n_jobs)
        images.contents = set() if are_fresh else None
        images.goes_on = self.on_error == "nan"
        if not images.goes_on:
            images.check_files()
        cache = open_cache(self.memory)
        scored = score_images(self._current_runner(), images, n_threads=n_threads, cache=cache)
        return self._then_warn(scored, images, cache)

    def _then_warn(
        self, scored: Generator[ImageScores, None, None], images: ImageCollection, cache: FeatureCache | None
    ) -> Generator[ImageScores, None, None]:
        yield from with_progress(scored, len(images), "scores and maps", self.verbose)
        if cache is not None:
            cache.warn()
        images.warn_of_errors("Their scores and maps are NaN.")
        images.warn_of_complaints()
        images.warn_of_values(self._trained_values)
        n_known = len(self._known_images() & images.contents) if images.contents else 0
        if n_known:
            warn(
                f"{n_known} of the {len(images)} images of X were fitted on. Their scores are better than those of "
                "fresh good images, of which far more will be flagged than was asked for. Pass images that were not "
                "fitted on, or all that were, with cv."
            )

    def _known_images(self) -> set[bytes]:
        """Digests of the images that were fitted on."""
        return {digest.tobytes() for digest in self._trained_images}

    def _current_runner(self) -> Runner:
        """What runs the model: the same for all calls until model or engine are others."""
        runner = vars(self).get("_runner")
        if runner is None or not runner.matches(self.model_, self.device_, self.precision_, self.engine):
            self._runner = runner = Runner(self.model_, self.device_, self.precision_, self.engine)
        runner.refresh()
        return runner

    def _new_framing(self) -> Framing:
        """Which parts of images the parameters ask for."""
        size = check_input_size(self.input_size)
        return Framing(
            roi=self.roi,
            tile_size=self.tile_size,
            tile_overlap=float(self.tile_overlap),
            aspect=size if self.keep_aspect else None,
            max_pixels=self.max_pixels,
        )

    def _check_X(self, X: Any, *, reset: bool, first_row: int = 0) -> ImageCollection:
        images = self._collect(X, reset=reset, first_row=first_row)
        images.framing = self._new_framing() if reset else self._framing
        return images

    def _collect(self, X: Any, *, reset: bool, first_row: int) -> ImageCollection:
        num_channels = int(self.num_channels if reset else self.model_.config["num_channels"])
        value_range = check_value_range(self.value_range)
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
            return ImageCollection(
                X, num_channels, row_shape=shape, value_range=value_range, first_row=first_row
            )
        if reset:
            self.image_shape_ = None
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(self, name):
                    delattr(self, name)
        return check_images(X, num_channels, value_range, first_row=first_row, max_pixels=self.max_pixels)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # maps are float32 whatever X is
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_runner", None)
        if "model_" in state:
            state["model_"] = pack_model(state["model_"])
            state["_framing"] = self._framing.options
            del state["device_"]
            # Paths as text: objects of them don't open on another system, nor in all formats.
            paths = {
                name: os.fspath(value) for name, value in state.items() if isinstance(value, os.PathLike)
            }
            state.update(paths)
            state["_digest"] = digest_of_state(state)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "model_" in state:
            digest = state.pop("_digest", None)
            if digest_of_state(state) != digest:
                raise ValueError(
                    "This CSFlowDetector was damaged after it was saved, or saved by an earlier version: its digest is "
                    "another one. Take another copy of the file, or fit again."
                )
            packed = state["model_"]
            warn_of_other_versions(packed)
            try:
                device = resolve_device(state["device"], state["engine"])
            except ValueError:  # fitted on a GPU that this machine doesn't have
                device = torch.device("cpu")
            state["_framing"] = Framing(**state["_framing"])
            state["model_"] = on_new_thread(lambda: unpack_model(packed, device))
            state["device_"] = device
            if device.type == "cpu" and state["precision_"] == "tf32":
                state["precision_"] = "float32"
        super().__setstate__(state)
