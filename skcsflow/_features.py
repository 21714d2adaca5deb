"""Images -> feature maps -> scores and maps, each image for itself."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from hashlib import blake2b
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skcsflow._batches import (
    Batching,
    apply_in_batches,
    apply_on_cores,
    map_items,
    map_on_cores,
    resolve_batching,
    resolve_n_cores,
)
from skcsflow._cache import CachedFeatures, FeatureCache
from skcsflow._device import autocast, cores
from skcsflow._openvino import run_openvino
from skcsflow._packed import packed
from skcsflow._storage import FeatureMaps
from skcsflow.nn import CSFlowModel, ScoreMode, anomaly_score

__all__ = ["ImageScores", "extract_features", "score_features", "score_images"]

_TOO_LARGE = (
    "Input X contains values too large: the {what} of X[{row}] would not be finite. "
    "Floats should lie between 0 and 1."
)


_WIDE_FLOW_BYTES = 2**27
"""Weights from which on reading them, by one core, is what takes a flow's time."""


class ImageSource(Protocol):
    """What images are read from: :class:`~skcsflow._images.ImageCollection` or its like."""

    def __len__(self) -> int: ...

    def load(self, i: int) -> Any:
        """What image `i` is made of, such as the bytes of a file."""
        ...

    def digest(self, content: Any) -> bytes:
        """Digest of what `load` gave, and of all else that `read` depends on."""
        ...

    def read(
        self, i: int, content: Any, size: tuple[int, int], dtype: torch.dtype
    ) -> tuple[Tensor, tuple[int, int]]:
        """Image `i`, of what `load` gave, at a size and of a type; and the size that it had."""
        ...


class ImageScores(NamedTuple):
    """What the model says of one image.

    Attributes
    ----------
    anomaly_score : float
        Of the model's `score_mode`, see :func:`~skcsflow.nn.anomaly_score`.
    log_likelihood : float
        Log-likelihood of the image's features, per dimension.
    scale_maps : list of Tensors of shape (H_s, W_s)
        Mean of ``z ** 2`` over the channels, per scale.
    size : tuple of int (H, W)
        Size that the image came in.
    """

    anomaly_score: float
    log_likelihood: float
    scale_maps: list[Tensor]
    size: tuple[int, int]


class ImageFeatures(NamedTuple):
    """Feature maps of one image.

    Attributes
    ----------
    row : int
        Which image.
    maps : list of Tensors of shape (channels, H_s, W_s)
        Feature maps, one per scale, contiguous; on the model's device or the CPU.
    size : tuple of int (H, W)
        Size that the image came in.
    """

    row: int
    maps: list[Tensor]
    size: tuple[int, int]


def extract_features(
    model: CSFlowModel,
    images: ImageSource,
    rows: NDArray[np.int64],
    *,
    precision: str,
    n_jobs: int | None,
    engine: str = "torch",
    cache: FeatureCache | None = None,
) -> Generator[ImageFeatures, None, None]:
    """Read, resize and run images through the backbone.

    Parameters
    ----------
    model : CSFlowModel
        The model, on the device to compute on.
    images : ImageSource
        The images.
    rows : ndarray of int
        Which of them.
    precision : {"float32", "float64", "bfloat16"}
        Precision to compute in.
    n_jobs : int or None
        Number of threads, see :func:`~skcsflow._batches.map_items`.
    engine : {"torch", "openvino"}, default="torch"
        What runs the networks.
    cache : FeatureCache or None, default=None
        Where features are looked up, and kept. They are the same bits with and without.

    Yields
    ------
    ImageFeatures
        Of each image in turn.
    """
    plan = _Plan.choose(model, precision, engine, len(rows), n_jobs)
    extractor = _Extractor(model, images, plan, cache)
    yield from map_items(
        lambda i: extractor.prepare(rows[i]),
        extractor.finish,
        len(rows),
        plan.device,
        n_jobs,
        plan.batching.size,
    )


def score_images(
    model: CSFlowModel,
    images: ImageSource,
    *,
    precision: str,
    n_jobs: int | None,
    engine: str = "torch",
    cache: FeatureCache | None = None,
) -> Iterator[ImageScores]:
    """Score images; parameters as in :func:`extract_features`, yields an ImageScores for each."""
    plan = _Plan.choose(model, precision, engine, len(images), n_jobs)
    extractor = _Extractor(model, images, plan, cache)
    scorer = _Scorer(model, plan)

    def compute(pending: list[_Pending]) -> list[tuple[list[Tensor], tuple[int, int]]]:
        features = extractor.finish(pending)
        scored = scorer.score([f.maps for f in features])
        return [(result, f.size) for result, f in zip(scored, features, strict=True)]

    results = map_items(extractor.prepare, compute, len(images), plan.device, n_jobs, plan.batching.size)
    with closing(results):  # its threads end here, also where the caller keeps the error
        for i, ((score, log_likelihood, *scale_maps), size) in enumerate(results):
            if not (score.isfinite() and log_likelihood.isfinite()):
                raise ValueError(_TOO_LARGE.format(what="score", row=i))
            yield ImageScores(score.item(), log_likelihood.item(), [m.cpu() for m in scale_maps], size)


def score_features(
    model: CSFlowModel,
    features: Sequence[FeatureMaps],
    *,
    precision: str,
    n_jobs: int | None,
    engine: str = "torch",
) -> Generator[tuple[float, list[Tensor]]]:
    """Anomaly scores of images whose features are at hand, and the scales' maps.

    Parameters
    ----------
    model : CSFlowModel
        The model.
    features : sequence of Tensors or MappedMaps of shape (n, channels, H_s, W_s)
        Feature maps as :func:`~skcsflow._storage.gather_features` gives them.
    precision, n_jobs, engine
        As in :func:`extract_features`.

    Yields
    ------
    anomaly_score, scale_maps
        As in :class:`ImageScores`, the same bits as :func:`score_images` gives for the
        images.
    """
    n_images = len(features[0])
    plan = _Plan.choose(model, precision, engine, n_images, n_jobs)
    scorer = _Scorer(model, plan)
    results = map_items(
        lambda i: [f[i] for f in features], scorer.score, n_images, plan.device, n_jobs, plan.batching.size
    )
    for score, _, *scale_maps in results:
        yield score.item(), [m.cpu() for m in scale_maps]


class _Plan(NamedTuple):
    """How the networks compute the images of one call."""

    precision: str
    engine: str
    device: torch.device
    batching: Batching
    is_wide: bool
    """Whether the flow is one whose weights take longer to read than to multiply with."""
    n_cores_alone: int
    """Number of cores for an image that is alone in a call; else 1."""

    @classmethod
    def choose(
        cls, model: CSFlowModel, precision: str, engine: str, n_images: int, n_jobs: int | None
    ) -> "_Plan":
        device = model.feature_extractor.mean.device
        image_size = model.anomaly_map_generator.input_dims[1:]
        is_wide = sum(p.nbytes for p in model.flow.parameters()) >= _WIDE_FLOW_BYTES
        batching = resolve_batching(n_images, image_size, device, precision, n_jobs, is_wide=is_wide)
        is_alone = n_images == 1 and device.type == "cpu"
        n_cores_alone = resolve_n_cores(n_jobs) if is_alone else 1
        return cls(precision, engine, device, batching, is_wide, n_cores_alone)

    def apply(
        self,
        function: Callable[[list[Tensor]], list[Tensor]],
        items: Sequence[Sequence[Tensor]],
        network: nn.Module,
        *,
        use_cores: bool,
    ) -> list[list[Tensor]]:
        """Apply a function, which runs this network, to the tensors of at most a batch of images.

        With `use_cores`, an image that is alone has all cores if that changes no bit.
        """
        # In bfloat16 a trial can't tell.
        if use_cores and self.n_cores_alone > 1 and self.precision != "bfloat16":
            return [apply_on_cores(function, items[0], self.n_cores_alone, network, self.kernels)]
        return apply_in_batches(function, items, self.batching, self.device, network, self.kernels)

    @property
    def kernels(self) -> tuple[str, ...]:
        """What kernels are chosen by, beside network and shapes."""
        return self.engine, self.precision, torch.get_float32_matmul_precision()


class _Pending(NamedTuple):
    """An image on its plan: either its features were in the cache, or the image has been read."""

    row: int
    key: str
    cached: CachedFeatures | None
    image: Tensor | None
    size: tuple[int, int]


class _Extractor:
    """Extracts features of images, or finds them in the cache.

    An image that is alone has all cores with OpenVINO, if it may and not in bfloat16, and with torch two, one of
    them for its largest scale.
    """

    def __init__(
        self, model: CSFlowModel, images: ImageSource, plan: _Plan, cache: FeatureCache | None
    ) -> None:
        self.images = images
        self.plan = plan
        self.cache = cache
        self.network = model.feature_extractor
        self.input_size = model.anomaly_map_generator.input_dims[1:]
        self.dtype = model.feature_extractor.mean.dtype
        self.packed_network = packed(self.network, plan.precision) if plan.engine == "torch" else None
        self.context = b"" if cache is None else self._context()

    def _context(self) -> bytes:
        """All that features depend on beside the image."""
        # Other kernels, other last digits.
        if self.plan.device.type == "cuda":
            device = torch.cuda.get_device_name(self.plan.device)
        else:
            device = torch.backends.cpu.get_cpu_capability()
        packages = ("skcsflow", "torch", "timm", "pillow") + (
            ("openvino",) if self.plan.engine == "openvino" else ()
        )
        parts = (
            self.network.fingerprint(),
            self.input_size,
            device,
            self.plan.kernels,
            self.plan.batching.size if self.plan.batching.is_fixed else 1,
            "pyramid by torch",  # with OpenVINO too: features that it made before had other last digits
            [version(package) for package in packages],
        )
        return repr(parts).encode()

    def prepare(self, row: int) -> _Pending:
        """Look an image's features up, or read the image; for several threads at a time."""
        row = int(row)
        key = ""
        content = self.images.load(row)  # once, for key and image: a file may change at any time
        if self.cache is not None:
            key = blake2b(self.context + self.images.digest(content), digest_size=16).hexdigest()
            if (cached := self.cache.get(key)) is not None:
                return _Pending(row, key, cached, None, cached.size)
        image, size = self.images.read(row, content, self.input_size, self.dtype)
        return _Pending(row, key, None, image, size)

    def finish(self, pending: list[_Pending]) -> list[ImageFeatures]:
        """Extract the features that weren't found; for at most a batch of images at a time."""
        todo = [p for p in pending if p.cached is None]
        extract = self._extract if self.cache is None else self._extract_and_keep
        new = iter(extract(todo) if todo else [])
        return [
            ImageFeatures(p.row, next(new) if p.cached is None else _tensors(p.cached), p.size)
            for p in pending
        ]

    def _extract_and_keep(self, pending: list[_Pending]) -> list[list[Tensor]]:
        assert self.cache is not None

        def compute(missing: list[int]) -> list[CachedFeatures]:
            chosen = [pending[i] for i in missing]
            return [
                CachedFeatures([m.cpu().numpy() for m in maps], p.size)
                for p, maps in zip(chosen, self._extract(chosen), strict=True)
            ]

        return [_tensors(entry) for entry in self.cache.get_or_compute([p.key for p in pending], compute)]

    def _extract(self, pending: list[_Pending]) -> list[list[Tensor]]:
        images = [[p.image] for p in pending if p.image is not None]
        extracted = self.plan.apply(self._run, images, self.network, use_cores=self.plan.engine == "openvino")
        for p, maps in zip(pending, extracted, strict=True):
            if not all(m.isfinite().all() for m in maps):
                raise ValueError(_TOO_LARGE.format(what="features", row=p.row))
        return extracted

    def _run(self, batch: list[Tensor]) -> list[Tensor]:
        (images,) = batch
        if self.packed_network is None:
            try:
                return run_openvino(self.network, self.network.pyramid(images), self.plan.precision)
            except RuntimeError:
                self.network(images)  # where the size is wrong, this says so
                raise
        images = images.contiguous(memory_format=torch.channels_last)
        scales = range(self.network.n_scales)
        if self.plan.n_cores_alone == 1:
            return self._run_scales(images, scales)
        # All smaller scales together take a third as long as the largest one.
        parts = map_on_cores(lambda part: self._run_scales(images, part), [scales[:1], scales[1:]], 2)
        return [maps for part in parts for maps in part]

    def _run_scales(self, images: Tensor, scales: Sequence[int]) -> list[Tensor]:
        assert self.packed_network is not None
        with autocast(images.device, self.plan.precision):
            features = self.packed_network(images, scales)
        return [f.to(images.dtype).contiguous() for f in features]


def _tensors(entry: CachedFeatures) -> list[Tensor]:
    # With Memory(mmap_mode="r") arrays are read-only, which torch doesn't take.
    return [torch.from_numpy(m if m.flags.writeable else m.copy()) for m in entry.maps]


class _Scorer:
    """Computes scores and maps of features, for at most a batch of images at a time.

    An image that is alone has all cores, if it may and not in bfloat16; with torch in a wide flow only.
    """

    def __init__(self, model: CSFlowModel, plan: _Plan) -> None:
        self.plan = plan
        self.flow = model.flow
        self.packed_flow = packed(model.flow, plan.precision) if plan.engine == "torch" else None
        self.score_mode = model.config["score_mode"]
        self.scale_maps = model.anomaly_map_generator.scale_maps

    def score(self, features: list[list[Tensor]]) -> list[list[Tensor]]:
        """Score, log-likelihood and maps of each image."""
        # With torch, threads wait for each other too much in a narrow flow.
        use_cores = self.plan.engine == "openvino" or self.plan.is_wide
        return self.plan.apply(self._run, features, self.flow, use_cores=use_cores)

    def _run(self, features: list[Tensor]) -> list[Tensor]:
        z, log_det = self._latent(features)
        with cores(1) if self.plan.n_cores_alone > 1 else nullcontext():  # threads would split large sums
            n_dims = sum(m[0].numel() for m in z)
            energies = anomaly_score(z)
            log_likelihoods = log_det.double() / n_dims - energies - np.log(2 * np.pi) / 2
            scores = energies if self.score_mode == ScoreMode.MEAN else anomaly_score(z, self.score_mode)
            return [scores, log_likelihoods, *(m[:, 0] for m in self.scale_maps(z))]

    def _latent(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        if self.packed_flow is None:
            *z, log_det = run_openvino(self.flow, features, self.plan.precision)
            return z, log_det
        # A clone has the strides of its memory format even where an axis is 1 long. Kernels
        # are chosen by strides, and kept features must give the same bits as fresh ones.
        features = [f.clone(memory_format=torch.channels_last) for f in features]
        with autocast(features[0].device, self.plan.precision):
            z, log_det = self.packed_flow(features)
        return z, log_det
