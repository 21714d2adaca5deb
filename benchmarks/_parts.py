"""Comparisons with anomalib. A part is one size of images in one precision; each is kept as soon as it is there."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks._ours import precisions
from benchmarks._report import RESULTS, write
from benchmarks._resume import Key, Prepared, Results, run_jobs, source_digest


def parser_of_parts(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """A parser of what the parts are, and how often each measurement is repeated by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 768])
    parser.add_argument("--n-images", type=int, nargs="+", default=[32, 8], help="for each size")
    parser.add_argument("--repeats", type=int, default=repeats)
    return parser


def run_parts(
    name: str,
    args: argparse.Namespace,
    compare: Callable[..., dict[str, Any]],
    print_results: Callable[[Results], None],
) -> None:
    """Measure the parts that aren't done yet, print the tables, write the results, and end the process.

    Parameters
    ----------
    name : str
        The benchmark's.
    args : Namespace
        What a parser made by :func:`parser_of_parts` gave. What it has beside sizes and numbers of images goes to
        `compare` by name.
    compare : callable
        Measures a part: takes input size, precision and number of images.
    print_results : callable
        Prints a table of each part.
    """
    options = {key: value for key, value in vars(args).items() if key not in ("sizes", "n_images")}

    def prepare(input_size: int, precision: str, n_images: int) -> Prepared:
        made_with = {"n_images": n_images, **options, "skcsflow": source_digest()}
        return made_with, partial(compare, input_size, precision, n_images, **options)

    jobs: dict[Key, Callable[[], Prepared]] = {
        (f"{input_size} pixels", precision): partial(prepare, input_size, precision, n_images)
        for precision in precisions()
        for input_size, n_images in zip(args.sizes, args.n_images, strict=True)
    }
    results, errors = run_jobs(RESULTS / f"{name}.state.json", jobs, print_results)
    if results:
        parts = {", ".join(key): result for key, result in results.items()}
        write(name, {"n_images": args.n_images, **options, "results": parts})
    sys.exit(f"failed: {len(errors)}" if errors else 0)
