"""What a detector says of places: anomaly maps, masks and regions."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import _check_feature_names_in, _num_samples, check_is_fitted

from skcsflow._checks import as_path, check_size
from skcsflow._compute import Runner, map_on_cores, resolve_n_threads
from skcsflow._images import Framing, as_sequence, is_row_matrix
from skcsflow._regions import Region, check_min_area, mark_pixels
from skcsflow._scoring import ImageScores, MapMaker
from skcsflow._whole_files import writing_whole
from skcsflow.nn import AnomalyMapGenerator, CSFlowModel

__all__ = ["MapsMixin"]


class MapsMixin:
    """The methods of :class:`~skcsflow.CSFlowDetector` that give maps or are made of them.

    No subclass of scikit-learn's TransformerMixin, which would make tables of the maps of images too.
    """

    n_jobs: int | None
    model_: CSFlowModel
    map_threshold_: float
    image_shape: tuple[int, ...] | None
    image_shape_: tuple[int, ...] | None
    _score_images: Callable[[Any], Generator[ImageScores, None, None]]
    _inspect: Callable[..., Generator[Any, None, None]]
    _current_runner: Callable[[], Runner]
    _framing: Framing

    def transform(self, X: Any) -> NDArray[Any]:
        """Compute anomaly maps.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.

        Returns
        -------
        ndarray of shape (n, H, W) or (n, H * W), float32
            Anomaly maps; higher is more anomalous. At the images' own size where they
            share one, else at `input_size`; :meth:`iter_maps` gives each at its image's
            size. Rows of a 2-D X give rows, or a table where `set_output` asks for one; maps of
            images are arrays always.
        """
        maps = self._compute_maps(X)
        if is_row_matrix(X):
            maps = _wrap_data_with_container("transform", maps.reshape(len(maps), -1), X, self)
        return maps

    def _compute_maps(self, X: Any) -> NDArray[np.float32]:
        scored = list(self._score_images(X))
        sizes = {s.size for s in scored if s.size is not None}
        size = sizes.pop() if len(sizes) == 1 else self.model_.input_size
        maps = np.empty((len(scored), *size), dtype=np.float32)
        n_threads = resolve_n_threads(self.n_jobs)
        make_map = self._map_maker()
        fused = map_on_cores(lambda s: make_map(s, size), scored, n_threads)
        for i, anomaly_map in enumerate(fused):
            maps[i] = anomaly_map
        return maps

    def iter_maps(self, X: Any) -> Iterator[NDArray[np.float32]]:
        """Compute anomaly maps one by one, for collections whose maps don't fit into memory.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.

        Returns
        -------
        iterator of ndarrays of shape (H, W), float32
            The map of each image in turn, at the image's own size. Threads work ahead of it:
            close it, or take all of it, for them to end.

        Examples
        --------
        >>> from skcsflow import CSFlowDetector
        >>> from skcsflow.datasets import make_defects
        >>> images = make_defects(n_normal=12, n_defective=0, random_state=0).images
        >>> detector = CSFlowDetector(input_size=64, n_epochs=1, random_state=0).fit(images)
        >>> [anomaly_map.shape for anomaly_map in detector.iter_maps([images[0], images[1, :96]])]
        [(128, 128), (96, 128)]
        """
        return self._maps_of(self._score_images(X))  # what is wrong with X shows now, not at the first map

    def save_maps(
        self, X: Any, path: str | os.PathLike[str], *, size: tuple[int, int] | None = None
    ) -> "np.memmap[Any, np.dtype[np.float32]]":
        """Write anomaly maps to a file as they are computed, and open it.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.
        path : path
            A ``.npy`` file, which :func:`numpy.load` reads. It is replaced once all maps
            are there; until then they are in a file beside it.
        size : tuple of int (H, W) or None, default=None
            Size of all maps. None: the images' own, which they must share.

        Returns
        -------
        memmap of shape (n, H, W), float32
            The file, read-only.

        Raises
        ------
        ValueError
            Where `path` doesn't end in ``.npy``, `size` is not two positive integers, or
            images differ in size and none is given.
        FileNotFoundError
            Where the folder of `path` doesn't exist.
        """
        path = as_path(path, "path")
        if path.suffix != ".npy":
            raise ValueError(f"path must end in .npy, got {str(path)!r}.")
        size = None if size is None else check_size(size, "size")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"No such folder, for path: {str(path.parent)!r}.")
        X = as_sequence(X)
        scored = self._score_images(X)
        # Its threads end here, also where the caller keeps the error.
        with writing_whole(path) as unfinished, closing(scored):
            self._write_maps(unfinished, scored, _num_samples(X), size)
        return np.load(path, mmap_mode="r")

    def predict_masks(self, X: Any) -> NDArray[Any]:
        """Mark the pixels that are anomalous.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.

        Returns
        -------
        ndarray of bool
            True in the regions that :meth:`predict_regions` finds, and everywhere in an image that can't be
            read. An image has such pixels where its map is above `map_threshold_` anywhere. Of the shape that
            :meth:`transform` gives: at `input_size` where images differ in size. The
            rate that :meth:`calibrate` promises is that of maps at the images' own size,
            which :meth:`predict_regions` always uses.
        """
        check_is_fitted(self)
        maps = self._compute_maps(X)
        generator = self._map_maker().generator
        masks = np.empty(maps.shape, dtype=bool)
        for i, anomaly_map in enumerate(maps):
            masks[i] = mask_of(anomaly_map, self.map_threshold_, generator)
        return masks.reshape(len(masks), -1) if is_row_matrix(X) else masks

    def predict_regions(self, X: Any, *, min_area: int = 1) -> list[list[Region]]:
        """Find the connected regions of anomalous pixels.

        Parameters
        ----------
        X : array-like of images
            Images, see :meth:`fit`.
        min_area : int, default=1
            Regions of fewer pixels are left out.

        Returns
        -------
        list of lists of Region
            The regions of each image where its map, at the image's own size, is above
            `map_threshold_`; box, area and peak of each, the highest peak first. Of each only those pixels
            whose energy is above normal by at least half as much as at the peak, as a strong defect
            raises the map far around it. See :func:`~skcsflow.find_regions`. An image that can't be read is
            one region, whose peak is NaN.
        """
        check_is_fitted(self)
        check_min_area(min_area)
        return [found.regions for found in self._inspect(self._score_images(X), min_area)]

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Name the pixels of the maps that `transform` gives for a 2-D X.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X. Only checked against those that were seen in `fit`.

        Returns
        -------
        ndarray of shape (H * W,), object
            ``"anomaly_<row>_<column>"``.

        Raises
        ------
        ValueError
            Where the detector was fitted on images, whose maps are no table, or `input_features` differ
            from the columns of X in `fit`.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        shape = self.image_shape_ or self.image_shape
        if shape is None:
            raise ValueError(
                "Maps of images have no feature names, and set_output has no table for them. Pass images as the "
                "rows of a 2-D X, with image_shape, to get maps as rows."
            )
        height, width = shape[:2]
        names = [f"anomaly_{i}_{j}" for i in range(height) for j in range(width)]
        return np.array(names, dtype=object)

    def _maps_of(
        self, images: Generator[ImageScores, None, None]
    ) -> Generator[NDArray[np.float32], None, None]:
        make_map = self._map_maker()
        with closing(images):  # its threads end here, also where the caller keeps the error
            for scored in images:
                yield make_map(scored)

    def _map_maker(self) -> MapMaker:
        return MapMaker(self._current_runner().map_generator, self._framing)

    def _write_maps(
        self, path: Path, images: Iterator[ImageScores], n_images: int, size: tuple[int, int] | None
    ) -> None:
        unreadable = []
        while (first := next(images, None)) is not None and size is None and first.size is None:
            unreadable.append(first)
        own_size = None if first is None else first.size
        height, width = size or own_size or self.model_.input_size
        make_map = self._map_maker()
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_images, height, width)}
        # Written, not mapped: a disk that is full is an error then, and not the end of the process.
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for i, scored in enumerate(chain(unreadable, [] if first is None else [first], images)):
                if size is None and scored.size not in (None, (height, width)):
                    raise ValueError(
                        f"X[{i}] has {scored.size[0]} x {scored.size[1]} pixels, but X[{len(unreadable)}] "
                        f"{height} x {width}. "
                        "Maps of images that differ need a size in common: give one."
                    )
                file.write(make_map(scored, (height, width)).astype("<f4", copy=False).tobytes())


def mask_of(
    anomaly_map: NDArray[np.float32], threshold: float, generator: AnomalyMapGenerator
) -> NDArray[np.bool_]:
    """The anomalous pixels of a map; of an image that can't be read, all, so that it doesn't pass for good."""
    if np.isnan(anomaly_map[0, 0]):
        return np.ones(anomaly_map.shape, dtype=bool)
    return mark_pixels(anomaly_map, threshold, generator.half_level)
