"""What one large image takes of memory, of the image files' pixels and of all that is made of them."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 3000, 4000

SCRIPT = """
import resource, sys
import numpy as np
import torch
from skcsflow._compute import Runner
from skcsflow._features import extract_features
from skcsflow._images import check_images
from skcsflow.nn import CSFlowModel

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

model = CSFlowModel(64, 4, backbone="test_efficientnet", weights=None).eval()
runner = Runner(model, torch.device("cpu"), "float32")

def extract(image, value_range=None):
    images = check_images([image], 3, value_range)
    assert len(list(extract_features(runner, images, np.array([0]), n_threads=1))) == 1

small = np.zeros((700, 700, 3), np.uint8)
for value_range in (None, (0, 200)):
    extract(small, value_range)
path = sys.argv[1]
image = np.load(path) if path.endswith("npy") else path
start = peak()
extract(image, (0, 200) if "range" in path else None)
print(peak() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count memory in other units")
@pytest.mark.parametrize(
    ("name", "most_bytes_per_pixel"),
    # Of a PNG: 4 bytes of Pillow's, 3 of the array's, and the file's own.
    [("a.jpg", 1.5), ("a.png", 9.5), ("a.npy", 1.5), ("range.npy", 1.5), ("range.png", 9.5)],
)
def test_a_large_image_takes_few_bytes_per_pixel(tmp_path, name, most_bytes_per_pixel):
    tile = np.random.RandomState(0).randint(100, 120, size=(500, 500, 3)).astype(np.uint8)
    picture = np.tile(tile, (HEIGHT // 500, WIDTH // 500, 1))
    path = tmp_path / name
    np.save(path, picture) if path.suffix == ".npy" else Image.fromarray(picture).save(path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < most_bytes_per_pixel * HEIGHT * WIDTH
