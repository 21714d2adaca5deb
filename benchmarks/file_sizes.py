"""Sizes of saved detectors, backbone included, and the time to load them and to score a first image.

python -m benchmarks.file_sizes
"""

import tempfile
from pathlib import Path
from time import perf_counter

import joblib
import skops.io

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector
from skcsflow.datasets import make_defects


def main() -> None:
    """Run, print the table and write the results."""
    images = make_defects(n_normal=16, n_defective=0, random_state=0).images
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for hidden in (16, 32, 64, 256):
            detector = CSFlowDetector(cross_conv_hidden_channels=hidden, n_epochs=1, random_state=0)
            detector.fit(images)
            sizes = {}
            for name, options in {"joblib": {}, "joblib, compress=3": {"compress": 3}}.items():
                path = Path(folder) / "detector.joblib"
                joblib.dump(detector, path, **options)
                sizes[f"{name}: MB"] = path.stat().st_size / 1e6
                start = perf_counter()
                loaded = joblib.load(path)
                sizes[f"{name}: load s"] = perf_counter() - start
            start = perf_counter()
            loaded.score_samples(images[:1])
            sizes["first score s"] = perf_counter() - start
            sizes["skops: MB"] = len(skops.io.dumps(detector)) / 1e6
            results[f"{hidden} hidden channels"] = sizes
            rows.append([hidden, *sizes.values()])
    print_table(["hidden channels", *sizes], rows)
    write("file_sizes", {"results": results})


if __name__ == "__main__":
    main()
