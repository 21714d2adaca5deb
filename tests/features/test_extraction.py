"""Images as feature maps: the backbone's own, whatever is read and found how."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from skcsflow._compute import Runner
from skcsflow._features import FeatureExtraction, extract_features, open_cache
from skcsflow._images import check_images, standardize
from skcsflow.nn import CSFlowModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runner():
    model = CSFlowModel((64, 48), 4, backbone="test_efficientnet", weights=None).eval()
    return Runner(model, CPU, "float32")


@pytest.fixture(scope="module")
def images():
    rng = np.random.RandomState(0)
    sizes = [(40, 30), (64, 48), (9, 70), (40, 30), (40, 30)]
    return check_images([rng.randint(0, 256, size, dtype=np.uint8) for size in sizes], 3)


@pytest.mark.parametrize("with_cache", [False, True])
def test_extract_features_gives_the_backbones_maps_and_the_images_sizes(runner, images, tmp_path, with_cache):
    rows = np.array([2, 0, 1, 4])
    cache = open_cache(tmp_path) if with_cache else None
    for n_threads in (1, 3):  # the second time all are found
        found = list(extract_features(runner, images, rows, n_threads=n_threads, cache=cache))
        assert [item.size for item in found] == [(9, 70), (40, 30), (64, 48), (40, 30)]
        for row, item in zip(rows, found, strict=True):
            batch = standardize([images[row]], (64, 48), torch.float32, CPU)
            expected = runner.model.feature_extractor(batch)
            assert [tuple(m.shape) for m in item.frames[0]] == [(64, 2, 2), (64, 1, 1), (64, 1, 1)]
            for maps, e in zip(item.frames[0], expected, strict=True):
                torch.testing.assert_close(maps, e[0], rtol=1e-4, atol=1e-5)
                assert maps.is_contiguous()


def test_extract_features_that_are_not_finite_raises_with_the_row(runner):
    images = check_images([np.zeros((8, 8)), np.full((8, 8), 1e38), np.zeros((8, 8))], 3)
    with pytest.raises(ValueError, match=r"the features of X\[1\] would not be finite"):
        list(extract_features(runner, images, np.array([0, 1]), n_threads=1))


def saved(array, kind):
    file = BytesIO()
    Image.fromarray(array).save(file, kind, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("with_cache", [False, True])
def test_extract_features_reads_large_jpegs_at_a_reduced_size_and_gives_their_own(
    runner, tmp_path, with_cache, monkeypatch
):
    rows, columns = np.mgrid[:600, :500]
    picture = (128 + 60 * np.sin(rows / 30) + 60 * np.cos(columns / 20)).astype(np.uint8)
    X = [saved(picture, "JPEG"), saved(picture, "PNG"), saved(picture[:300, :300], "JPEG")]
    images = check_images(X, 3)
    read, decode = [], images.decode

    def note(*args):
        decoded = decode(*args)
        read.append(tuple(decoded.pixels.shape[1:]))
        return decoded

    monkeypatch.setattr(images, "decode", note)
    cache = open_cache(tmp_path) if with_cache else None
    for _ in range(2):  # the second time all may be found
        found = list(extract_features(runner, images, np.arange(3), n_threads=1, cache=cache))
        assert [item.size for item in found] == [(600, 500), (600, 500), (300, 300)]
    # 4 times the model's 64 x 48 is 256 x 192: a half of the first image, all of the third.
    assert read == [(300, 250), (600, 500), (300, 300)] * (1 if with_cache else 2)
    for maps, full in zip(found[0].frames[0], found[1].frames[0], strict=True):
        assert (maps - full).abs().mean() < 0.02 * full.abs().mean()


def test_images_are_held_at_the_models_size_on_a_cpu(runner):
    images = check_images([np.zeros((200, 300, 3), np.uint8)], 3, (0, 9))
    pending = FeatureExtraction(runner, images, None).read(0)
    assert (pending.frames[0].shape, pending.frames[0].dtype) == ((3, 64, 48), torch.float32)
    assert pending.size == (200, 300)
