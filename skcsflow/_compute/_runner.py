"""One object that runs a fitted model: images to feature maps, feature maps to scores."""

import copy
import os
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from skcsflow._checks import warn
from skcsflow._compute._device import autocast, backbone_layout, cuda_kernels
from skcsflow._compute._openvino import CompiledNetwork
from skcsflow._compute._recorded import RecordedFunction
from skcsflow._compute._threads import CoreThreads, map_on_cores
from skcsflow._images import standardize
from skcsflow.nn import (
    AnomalyMapGenerator,
    CrossScaleFlow,
    CSFlowModel,
    MultiScaleFeatureExtractor,
    log_likelihood,
)

__all__ = ["Runner"]

T = TypeVar("T")
R = TypeVar("R")
Function = Callable[[list[Tensor]], list[Tensor]]
"""Takes and returns tensors of shape (batch size, ...)."""

GPU_BATCH_PIXELS = 3 * 2**19
"""Pixels of the images that go through a GPU together: 24 images of 256 x 256, and under 1 GB of maps."""

GPU_BATCH_SIZE = 64
"""Images that go through a GPU together, at most."""

GPU_THREADS = 3
"""Threads that feed a GPU: one has its batch computed while others read the next and hand on the last."""

SLOW_SECONDS = 2e-3
"""Where reading the first image of a GPU's batch takes longer, several threads read the others."""

CPU_GROUP_SIZE = 4
"""Images that go through a network together on one core. The default network is 1.5 times as fast so."""

CPU_GROUP_PIXELS = 2**16
"""Pixels of such an image, at most. With more, the maps of a backbone's first layers leave the caches."""

WIDE_FLOW_BYTES = 2**27
"""Weights of flows that OpenVINO runs for one image at a time."""

GROUPS_PER_THREAD = 4
"""Groups that each thread must get, or the last ones leave the other threads idle."""


class Runner:
    """Runs a fitted model so that an image's results never depend on the other images.

    Kernels, and with them the last digits of a result, are chosen by the shape of a batch and
    the number of threads. On a GPU all batches therefore have one size, filled up where images
    are missing. On a CPU each image is computed on one core, several at a time; small groups share a
    core where a trial shows that this changes no bit, and an image alone may have a core for each
    pass of the backbone.

    It holds what is made once for a model, OpenVINO's compiled networks and CUDA graphs, and can't be
    pickled. Several threads may use it. Where weights may have changed, call :meth:`refresh`.

    Parameters
    ----------
    model : CSFlowModel
        The model, in evaluation mode.
    device : torch.device
        Where it is, and where to compute.
    precision : {"float32", "tf32", "bfloat16", "float64"}
        Precision to compute in.
    engine : {"torch", "openvino"}, default="torch"
        What runs the networks.
    """

    def __init__(
        self, model: CSFlowModel, device: torch.device, precision: str, engine: str = "torch"
    ) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.engine = engine
        self._preparing = threading.RLock()  # a trial may compile
        self._prepared: dict[Hashable, _Prepared] = {}
        self._group_outcomes: dict[Hashable, bool] = {}
        self._n_halvings = 0

    def matches(self, model: CSFlowModel, device: torch.device, precision: str, engine: str) -> bool:
        """Whether this runs that model in that way."""
        return self.model is model and (self.device, self.precision, self.engine) == (
            device,
            precision,
            engine,
        )

    def refresh(self) -> None:
        """Forget what was made of networks whose weights have changed since."""
        with self._preparing:
            networks = {id(p.network): p.network for p in self._prepared.values()}
            versions = {key: _versions(_tensors(network)) for key, network in networks.items()}
            self._prepared = {
                key: prepared
                for key, prepared in self._prepared.items()
                if versions[id(prepared.network)] == prepared.versions
            }

    @property
    def fingerprint(self) -> str:
        """The feature extractor's fingerprint, computed once for the same weights."""
        extractor = self.model.feature_extractor
        return self._prepare("fingerprint", extractor, extractor.fingerprint)

    @property
    def map_generator(self) -> AnomalyMapGenerator:
        """The model's, on the CPU, where the maps of :meth:`scores` are."""

        def copy_to_cpu() -> AnomalyMapGenerator:
            return copy.deepcopy(self.model.anomaly_map_generator).cpu()

        return self._prepare("maps", self.model.anomaly_map_generator, copy_to_cpu)

    @property
    def kernels(self) -> tuple[str, ...]:
        """What chooses kernels beside shapes: results of another kind have other last digits."""
        if self.device.type == "cuda":
            return self.engine, self.precision, torch.cuda.get_device_name(self.device), str(self._batch_size)
        return self.engine, self.precision, torch.backends.cpu.get_cpu_capability()

    def map(
        self,
        read: Callable[[int], T],
        compute: Callable[[list[T]], list[R]],
        n_items: int,
        n_threads: int,
        *,
        one_by_one: bool = False,
    ) -> Generator[R, None, None]:
        """Read items and compute a result for each.

        Parameters
        ----------
        read : callable
            Gives item `i`. Runs in several threads.
        compute : callable
            Takes a list of items and gives a list of their results. Runs in several threads.
        n_items : int
            Number of items.
        n_threads : int
            Number of threads to read and compute with; at most three of them feed a GPU.
        one_by_one : bool, default=False
            Whether `compute` takes one item at a time, as it does for images of many frames.

        Yields
        ------
        object
            Result for each item in turn.
        """
        is_cuda = self.device.type == "cuda"
        is_enough = is_cuda or n_items >= GROUPS_PER_THREAD * CPU_GROUP_SIZE * n_threads
        size = self._most_together if is_enough and not one_by_one else 1
        groups = [range(start, min(start + size, n_items)) for start in range(0, n_items, size)]
        n_computing = min(GPU_THREADS, n_threads, len(groups)) if is_cuda else min(n_threads, len(groups))
        readers = CoreThreads(n_threads)

        def read_and_compute(rows: range) -> list[R]:
            start = perf_counter()
            first = read(rows[0])
            is_slow = is_cuda and n_threads > 1 and perf_counter() - start > SLOW_SECONDS
            others = readers.map(read, rows[1:], ahead=size) if is_slow else map(read, rows[1:])
            return compute([first, *others])

        # Also for a single group: the modes of torch that the caller is in don't hold in other threads.
        with readers, closing(map_on_cores(read_and_compute, groups, max(1, n_computing))) as results:
            for of_group in results:
                yield from of_group

    def standardize(self, images: Sequence[Tensor], value_range: tuple[float, float] | None = None) -> Tensor:
        """Scale and resize images for the model, see :func:`~skcsflow._images.standardize`."""
        return standardize(images, self.model.input_size, self.model.dtype, self.device, value_range)

    def features(self, images: Sequence[Tensor], n_cores: int = 1) -> list[list[Tensor]]:
        """Extract the feature maps of a batch of images.

        Parameters
        ----------
        images : sequence of Tensors of shape (C, H, W)
            As :meth:`standardize` gives them, no more than one batch of :meth:`map` or :meth:`in_groups`.
        n_cores : int, default=1
            Cores that a CPU may use: more than one for an image alone. Each pass of the backbone stays on one
            core, so that bits don't depend on the number.

        Returns
        -------
        list of lists of Tensors
            Of each image its feature maps (channels, H_s, W_s), one per scale, and whether they
            are finite, a Tensor of shape (). All on the device.
        """
        items = [[image] for image in images]
        if n_cores > 1 and self.device.type == "cpu" and self.engine == "torch":
            extract = partial(self._extract, n_cores=n_cores)
            return [_apply_to_batch(extract, [item])[0] for item in items]
        return self._apply(self._extract, self.model.feature_extractor, items)

    def scores(self, features: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """Score a batch of images by their feature maps.

        Parameters
        ----------
        features : sequence of sequences of Tensors of shape (channels, H_s, W_s)
            Feature maps of each image, one per scale, on the CPU or the device.

        Returns
        -------
        list of lists of Tensors
            Of each image the model's anomaly score and the log-likelihood per dimension, float64 of
            shape (), the map of each scale (H_s, W_s), and whether all of these are finite, a
            Tensor of shape (). All on the CPU.
        """
        sizes = [maps.shape[-2:] for maps in features[0]]

        def unpack(results: list[Tensor]) -> list[Tensor]:
            scores, positions, finite = (t.cpu() for t in results)
            maps = positions.split([size.numel() for size in sizes], dim=1)
            shaped = (m.unflatten(1, size) for m, size in zip(maps, sizes, strict=True))
            return [*scores.unbind(dim=1), *shaped, finite]

        return self._apply(self._score, self.model.flow, features, unpack)

    def in_groups(
        self, function: Callable[[Sequence[T]], list[R]], items: Sequence[T], n_cores: int
    ) -> list[R]:
        """Apply :meth:`features` or :meth:`scores` to items that may be more than a batch: the frames of images.

        Parameters
        ----------
        function : callable
            Takes a batch of items and gives a list of their results.
        items : sequence
            The items.
        n_cores : int
            Cores that a CPU may use, for a batch each.

        Returns
        -------
        list
            Result of each item.
        """
        if len(items) < 2:  # the way of an image alone, which is called often
            return function(items) if items else []
        size = self._most_together
        groups = [items[k : k + size] for k in range(0, len(items), size)]
        n_cores = min(n_cores, len(groups)) if self.device.type == "cpu" else 1
        results = map_on_cores(function, groups, n_cores) if n_cores > 1 else map(function, groups)
        return list(chain.from_iterable(results))

    @property
    def _batch_size(self) -> int:
        height, width = self.model.input_size
        size = min(GPU_BATCH_SIZE, GPU_BATCH_PIXELS // (height * width)) >> self._n_halvings
        return max(1, size)

    @property
    def _most_together(self) -> int:
        """Images that go through a network together, at most; on a CPU on one core, if that changes no bit."""
        if self.device.type == "cuda":
            return self._batch_size
        height, width = self.model.input_size
        # In other precisions the trial proves nothing: that sums were made in another order shows in few images. It is
        # rounded away in bfloat16, and rarely changes a last digit of float64.
        if self.precision != "float32" or height * width > CPU_GROUP_PIXELS:
            return 1
        # OpenVINO would compile wide flows once more, which takes gigabytes and gains nothing.
        flow = self.model.flow
        is_wide = self.engine == "openvino" and sum(p.nbytes for p in flow.parameters()) > WIDE_FLOW_BYTES
        return 1 if is_wide else CPU_GROUP_SIZE

    def _apply(
        self,
        function: Function,
        network: nn.Module,
        items: Sequence[Sequence[Tensor]],
        unpack: Function = list,
    ) -> list[list[Tensor]]:
        """Apply a function of batches that runs a network to items, given and returned one by one.

        What the function gives for a batch goes through `unpack`.
        """

        def run(batch: list[Tensor]) -> list[Tensor]:
            is_cuda = self.device.type == "cuda"
            return unpack(self._run_recorded(function, network, batch) if is_cuda else function(batch))

        if self.device.type == "cuda":
            return self._apply_within_memory(run, items)
        if len(items) == CPU_GROUP_SIZE and self._may_group(function, items):
            return _apply_to_batch(run, items)
        return [result for item in items for result in _apply_to_batch(run, [item])]

    def _apply_within_memory(self, run: Function, items: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """Apply a function to items in batches that fit into a GPU's memory."""
        while True:
            size = self._batch_size
            try:
                batches = [items[k : k + size] for k in range(0, len(items), size)]
                return [result for batch in batches for result in _apply_to_batch(run, batch)]
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            self._halve(size)  # here and not above, where the error still holds what was on the GPU

    def _halve(self, size: int) -> None:
        """Halve the batches, unless another thread has done so since they had this size."""
        with self._preparing:
            if self._batch_size < size:
                return
            self._n_halvings += 1
            self._prepared.clear()  # recorded for the larger batch, they hold its memory
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        warn(
            f"The memory of {self.device} doesn't hold {size} images at a time. From now on {self._batch_size} are "
            "computed together, which gives the same results but for the last digits."
        )

    def _run_recorded(self, function: Function, network: nn.Module, batch: list[Tensor]) -> list[Tensor]:
        batch = [t.to(self.device) for t in batch]

        def run(inputs: list[Tensor]) -> list[Tensor]:
            with cuda_kernels(self.device, self.precision):
                return function(inputs)

        # Statistics are set in place, after the flow has first run: what was recorded reads their new values.
        statistics = tuple(t.data_ptr() for t in self.model.statistics.buffers())
        key = function.__name__, statistics, tuple((t.shape[1:], t.dtype) for t in batch)
        recorded = self._prepare(key, network, lambda: RecordedFunction(run, batch, self._batch_size))
        return [t[: len(batch[0])] for t in recorded(batch)]

    def _may_group(self, function: Function, items: Sequence[Sequence[Tensor]]) -> bool:
        """Whether items of these shapes get the same bits together as alone; tried once, with noise."""
        key = function.__name__, tuple((t.shape, t.dtype) for t in items[0])
        with self._preparing:
            if key not in self._group_outcomes:
                self._group_outcomes[key] = _gives_same_bits(function, items)
            return self._group_outcomes[key]

    def _extract(self, batch: list[Tensor], n_cores: int = 1) -> list[Tensor]:
        (images,) = batch
        extractor = self.model.feature_extractor
        if self.engine == "openvino":
            # The pyramid by torch, which is ten times faster at it.
            features = self._run_compiled(extractor, extractor.pyramid(images))
        else:
            images = images.contiguous(memory_format=backbone_layout(images.device))
            with autocast(self.device, self.precision):
                features = extractor(images) if n_cores == 1 else self._extract_side_by_side(images, n_cores)
        features = [f.to(images.dtype).contiguous() for f in features]
        finite = torch.stack([f.isfinite().flatten(1).all(dim=1) for f in features]).all(dim=0)
        return [*features, finite]

    def _extract_side_by_side(self, images: Tensor, n_cores: int) -> list[Tensor]:
        """Extract features, each pass of the backbone in a thread of its own."""

        def apply(function: Callable[[T], R], passes: Sequence[T]) -> Iterable[R]:
            def run(one: T) -> R:
                with autocast(self.device, self.precision):  # in this thread too
                    return function(one)

            return map_on_cores(run, passes, min(n_cores, len(passes)))

        extractor = self.model.feature_extractor
        return extractor.extract(extractor.pyramid(images), apply)

    def _score(self, features: list[Tensor]) -> list[Tensor]:
        flow = self.model.flow
        if self.engine == "openvino":
            *z, log_det = self._run_compiled(flow, features)
        else:
            # A clone has the strides of its memory format even where an axis is 1 long. Kernels are chosen by
            # strides, and features that were kept must give the same bits as fresh ones.
            features = [f.clone(memory_format=torch.channels_last) for f in features]
            with autocast(self.device, self.precision):
                z, log_det = flow(features)
        maps = self.model.scale_maps(z)
        # On a CPU exponentials of one number and of several in a row have other last digits.
        rows = [slice(None)] if z[0].is_cuda else [slice(k, k + 1) for k in range(len(z[0]))]
        anomaly_scores = torch.cat([self.model.score([m[k] for m in z], [m[k] for m in maps]) for k in rows])
        scores = torch.stack([anomaly_scores, log_likelihood(z, log_det)], dim=1)
        # Maps side by side: one copy from a GPU, not one for each scale and image.
        positions = torch.cat([m.flatten(1) for m in maps], dim=1)
        finite = scores.isfinite().all(dim=1) & positions.isfinite().all(dim=1)
        return [scores, positions, finite]

    def _run_compiled(
        self, network: MultiScaleFeatureExtractor | CrossScaleFlow, inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        def compile_network() -> CompiledNetwork:
            try:
                return CompiledNetwork(_Flat(network).eval(), inputs, self.precision)
            except RuntimeError:
                if isinstance(network, MultiScaleFeatureExtractor):
                    network.extract(inputs)  # where the backbone can't take the size, this says so
                raise

        key = os.getpid(), type(network), tuple(t.shape for t in inputs)  # each process compiles its own
        return self._prepare(key, network, compile_network)(inputs)

    def _prepare(self, key: Hashable, network: nn.Module, prepare: Callable[[], T]) -> T:
        """What was prepared of a network under this key."""
        with self._preparing:
            prepared = self._prepared.get(key)
            if prepared is None or prepared.network is not network:
                tensors = _tensors(network)
                prepared = _Prepared(network, [t.detach() for t in tensors], _versions(tensors), prepare())
                self._prepared[key] = prepared
        return cast(T, prepared.value)


class _Prepared(NamedTuple):
    """What was made of a network.

    Attributes
    ----------
    network : nn.Module
        The network.
    tensors : list of Tensors
        Weights that it was made of. Held so that calls under way end with them, whatever the network has by then.
    versions : list of int
        See :func:`_versions`.
    value : object
        What was made.
    """

    network: nn.Module
    tensors: list[Tensor]
    versions: list[int]
    value: Any


class _Flat(nn.Module):
    """A network that takes and returns Tensors one by one, and no lists of them."""

    def __init__(self, network: MultiScaleFeatureExtractor | CrossScaleFlow) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        if isinstance(self.network, CrossScaleFlow):
            z, log_det = self.network(inputs)
            return [*z, log_det]
        return self.network.extract(inputs)


def _apply_to_batch(function: Function, items: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    results = function([torch.stack(tensors) for tensors in zip(*items, strict=True)])
    return [list(of_item) for of_item in zip(*(r.unbind() for r in results), strict=True)]


def _gives_same_bits(function: Function, items: Sequence[Sequence[Tensor]]) -> bool:
    # Noise and not the items themselves, which may be alike, or black.
    generator = torch.Generator().manual_seed(0)
    noise = [[torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in item] for item in items]
    alone = [_apply_to_batch(function, [item])[0] for item in noise]
    # Where noise overflows, results are alike whatever they were computed by.
    return all(
        bool(a.isfinite().all()) and a.numpy().tobytes() == b.numpy().tobytes()
        for result, other in zip(_apply_to_batch(function, noise), alone, strict=True)
        for a, b in zip(result, other, strict=True)
    )


def _tensors(network: nn.Module) -> list[Tensor]:
    """Weights and buffers of a network."""
    # parameters() and buffers() would take twice as long. This runs in every call, and counts for an image alone.
    return [
        t for m in network.modules() for t in (*m._parameters.values(), *m._buffers.values()) if t is not None
    ]


def _versions(tensors: Sequence[Tensor]) -> list[int]:
    """Numbers that change when weights do, in place or by others."""
    return [n for t in tensors for n in (t.data_ptr(), 0 if t.is_inference() else t._version)]
