"""Training features in memory and in mapped files: the same rows, the same bits, nothing left behind."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import open_files

from skcsflow._features import _storage
from skcsflow._features._storage import MappedMaps, gather_features, in_batches

CPU = torch.device("cpu")
SHAPES = [(6, 4, 3), (6, 2, 2), (6, 1, 1)]


def make_items(n, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES] for _ in range(n)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mapped", [False, True])
def test_gather_features_keeps_rows_in_order_and_channels_last(tmp_path, mapped, dtype):
    items = make_items(7, dtype)
    with gather_features(iter(items), 7, CPU, tmp_path if mapped else None) as features:
        assert [type(f) for f in features] == [MappedMaps if mapped else torch.Tensor] * 3
        for s, of_scale in enumerate(features):
            assert len(of_scale) == 7
            assert of_scale.device == CPU
            for i in range(7):
                assert torch.equal(of_scale[i], items[i][s])
            assert of_scale[:].dtype == dtype
            assert of_scale[:].is_contiguous(memory_format=torch.channels_last)


ROWS = [3, slice(2, 5), slice(6, 9), torch.tensor([5, 0, 6, 0]), torch.tensor([4])]


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_mapped_maps_rows_have_the_bits_and_strides_of_those_in_memory(tmp_path, rows):
    # Kernels are chosen by strides, so that these are part of giving the same bits.
    with (
        gather_features(iter(make_items(7)), 7, CPU) as expected,
        gather_features(iter(make_items(7)), 7, CPU, tmp_path) as features,
    ):
        for e, f in zip(expected, features, strict=True):
            assert torch.equal(f[rows], e[rows])
            assert f[rows].stride() == e[rows].stride()


def test_mapped_maps_rows_are_copies_that_outlive_the_file(tmp_path):
    items = make_items(7)
    with gather_features(iter(items), 7, CPU, tmp_path) as features:
        for rows in ROWS:
            features[0][rows].zero_()
        kept = features[0][:]
    assert torch.equal(kept, torch.stack([maps[0] for maps in items]))


@pytest.mark.parametrize("end", ["done", "failed while gathering", "failed in use", "interrupted"])
def test_gather_features_at_any_end_leaves_no_file(tmp_path, end):
    def items():
        for i, item in enumerate(make_items(7)):
            if end == "failed while gathering" and i == 4:
                raise ValueError("item 4")
            yield item

    kept_error = None
    try:
        with gather_features(items(), 7, CPU, tmp_path) as features:
            if sys.platform == "linux":
                assert len(open_files(tmp_path)) >= 3
            assert len(features[0][:]) == 7
            if end == "failed in use":
                raise ValueError("in use")
            if end == "interrupted":
                raise KeyboardInterrupt
    except (ValueError, KeyboardInterrupt) as error:
        kept_error = error  # with its frames, and all that they hold
    assert (kept_error is None) == (end == "done")
    assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of resources")
def test_gather_features_on_a_full_disk_raises(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with (
            pytest.raises(OSError, match="File too large"),
            gather_features(iter(make_items(100)), 100, CPU, tmp_path),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == []


def resident_file_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [int(line.split()[1]) for line in lines if line.startswith("RssFile")]
    return 1024 * kilobytes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("side", "n"), [(128, 64), (4, 64_000)], ids=["large rows", "small rows"])
def test_mapped_maps_give_pages_back_to_the_system(tmp_path, monkeypatch, side, n):
    monkeypatch.setattr(_storage, "RELEASE_BYTES", 2**21)
    item = [torch.zeros(16, side, side)]
    with gather_features((item for _ in range(n)), n, CPU, tmp_path) as (features,):
        before = peak = resident_file_bytes()
        for rows in torch.randperm(n, generator=torch.Generator().manual_seed(0)).split(1 if n == 64 else 16):
            features[rows]
            peak = max(peak, resident_file_bytes())
    assert peak - before < 8 * 2**20


@pytest.mark.parametrize("n", [1, 31, 32, 33, 70])
def test_in_batches_gives_every_row_once_in_batches_of_32(n):
    features = [torch.arange(n), torch.arange(n) + 100]
    batches = list(in_batches(features, np.arange(len(features[0]))))
    assert [len(b[0]) for b in batches[:-1]] == [32] * (len(batches) - 1)
    for k, f in enumerate(features):
        assert torch.equal(torch.cat([b[k] for b in batches]), f)


@pytest.mark.parametrize(("n_bytes", "expected"), [(50, True), (51, False)])
def test_fits_up_to_half_the_free_memory_of_a_gpu_is_true(monkeypatch, n_bytes, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    assert _storage._fits(torch.device("cuda"), n_bytes) == expected
    assert not _storage._fits(CPU, n_bytes)


@pytest.mark.parametrize("fits", [False, True])
def test_gather_features_maps_files_only_where_they_do_not_fit_on_the_gpu(tmp_path, monkeypatch, fits):
    asked = []
    monkeypatch.setattr(_storage, "_fits", lambda device, n_bytes: asked.append(n_bytes) or fits)
    with gather_features(iter(make_items(7)), 7, CPU, tmp_path) as features:
        assert all(isinstance(f, torch.Tensor) == fits for f in features)
    assert asked == [7 * 4 * 6 * (12 + 4 + 1)]
