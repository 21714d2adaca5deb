"""Images as feature maps: the backbone's own, whatever is read and found how."""

import numpy as np
import pytest
import torch

from skcsflow._compute import Runner
from skcsflow._features import extract_features, open_cache
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
