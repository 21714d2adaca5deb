"""One GroupedDetector of many products against as many single detectors: time, memory, files, loading.

    python -m benchmarks.many_detectors [--n-products 10 40 200] [--n-images 20] [--n-epochs 1] [--input-size 128]

Costs of the first two numbers of products give a straight line, and that the costs expected of the last one.

Each way runs in a process of its own, and so does each loading. Images are drawn, others for every product. Both
ways must give the same scores, bit for bit.
"""

import argparse
import multiprocessing
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import print_table, write
from benchmarks.memory_growth import resident
from skcsflow import CSFlowDetector, GroupedDetector, load, save
from skcsflow.datasets import make_defects

SURFACES = ("circuit", "bottle_cap", "fabric")


def images_of(product: int, n: int, size: int) -> NDArray[np.uint8]:
    """Images of good parts of a product."""
    return make_defects(
        surface=SURFACES[product % 3], n_normal=n, n_defective=0, size=size, random_state=900 + product
    ).images


def table(args: argparse.Namespace, n_products: int) -> dict[str, list[Any]]:
    """All images and their products."""
    products = range(n_products)
    images = [images_of(k, args.n_images, args.input_size) for k in products]
    return {
        "group": [k for k in products for _ in range(args.n_images)],
        "image": [i for some in images for i in some],
    }


def detector(args: argparse.Namespace) -> CSFlowDetector:
    """What is fitted for each product."""
    return CSFlowDetector(input_size=args.input_size, n_epochs=args.n_epochs, random_state=0)


def fit_grouped(args: argparse.Namespace, n_products: int, folder: Path) -> dict[str, Any]:
    """All products by one GroupedDetector."""
    warnings.simplefilter("ignore")
    X = table(args, n_products)
    start, before = perf_counter(), resident()
    grouped = GroupedDetector(detector(args), n_jobs=args.n_jobs).fit(X)
    fitted, memory = perf_counter(), resident() - before
    scores = grouped.score_samples(X)
    scored = perf_counter()
    save(grouped, folder / "all.joblib")
    return {
        "fit, s": fitted - start,
        "score, s": scored - fitted,
        "save, s": perf_counter() - scored,
        "memory after fit, MB": memory,
        "files, MB": (folder / "all.joblib").stat().st_size / 1e6,
        "scores": scores,
    }


def fit_singly(args: argparse.Namespace, n_products: int, folder: Path) -> dict[str, Any]:
    """Each product by a detector of its own."""
    warnings.simplefilter("ignore")
    X = table(args, n_products)
    images = [X["image"][k * args.n_images : (k + 1) * args.n_images] for k in range(n_products)]
    start, before = perf_counter(), resident()
    detectors = [detector(args).fit(some) for some in images]
    fitted, memory = perf_counter(), resident() - before
    scores = [d.score_samples(some) for d, some in zip(detectors, images, strict=True)]
    scored = perf_counter()
    for k, one in enumerate(detectors):
        save(one, folder / f"{k}.joblib")
    return {
        "fit, s": fitted - start,
        "score, s": scored - fitted,
        "save, s": perf_counter() - scored,
        "memory after fit, MB": memory,
        "files, MB": sum(path.stat().st_size for path in folder.glob("*.joblib")) / 1e6,
        "scores": np.concatenate(scores),
    }


def load_all(paths: list[Path]) -> dict[str, Any]:
    """Load files, and keep what they hold."""
    warnings.simplefilter("ignore")
    start, before = perf_counter(), resident()
    kept = [load(path) for path in paths]
    found = {"load, s": perf_counter() - start, "memory after load, MB": resident() - before}
    del kept
    return found


def in_process(function: Any, *arguments: Any) -> dict[str, Any]:
    """The result of a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(function, *arguments).result()
        return found


def main() -> None:
    """Run, print a table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-products", type=int, nargs="+", default=[10, 40, 200])
    parser.add_argument("--n-images", type=int, default=20)
    parser.add_argument("--n-epochs", type=int, default=1)
    parser.add_argument("--input-size", type=int, default=128)
    parser.add_argument("--n-jobs", type=int, default=None)
    args = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    ways = [(f"grouped, {n}", fit_grouped, n) for n in args.n_products]
    for name, function, n in [*ways, ("single", fit_singly, args.n_products[-1])]:
        with tempfile.TemporaryDirectory() as folder:
            found = in_process(function, args, n, Path(folder))
            found |= in_process(load_all, sorted(Path(folder).glob("*.joblib")))
        results[name] = found
        print(name, {key: value for key, value in found.items() if key != "scores"}, flush=True)
    few, more, most = (results[name] for name, *_ in ways)
    scores = [result.pop("scores") for result in results.values()]
    is_same = bool((scores[-1] == scores[-2]).all())
    n_few, n_more, n_most = args.n_products
    rows, expected = [], {}
    for what in most:
        slope = (more[what] - few[what]) / (n_more - n_few)
        expected[what] = more[what] + slope * (n_most - n_more)
        rows.append(
            (what, most[what], expected[what], results["single"][what], results["single"][what] / most[what])
        )
    print_table(("", f"grouped, {n_most}", "expected", "single", "single / grouped"), rows)
    print(f"The same scores, bit for bit: {is_same}")
    found = {"arguments": vars(args), "results": results, "expected": expected, "same_scores": is_same}
    write("many_detectors", found)


if __name__ == "__main__":
    main()
