"""Memory and time to score one large image: 12,000 x 9,000 pixels in colour, as JPEG, as PNG, and as an array.

    python -m benchmarks.large_images [--width 12000] [--height 9000] [--n-jobs 1]

Each is scored in a fresh process that has scored a small image before, by a detector of 256 pixels. "More" is what the
system's record of the process's peak grew by meanwhile; where an array is scored, the array itself is not in it. The
picture is a smooth one under noise of a few levels, as a camera's. "read in full" opens the file by Pillow first,
which is how a JPEG is scored without being read at reduced size.

Then, how far scores move by the reduced size: synthetic surfaces of 2,304 pixels, saved as JPEG at quality 90, are
scored at half their size and at full size by one detector, as a share of the standard deviation of the good images'
scores. Making these surfaces takes minutes; `--no-shift` leaves them out.
"""

import argparse
import io
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector
from skcsflow._features import _extraction
from skcsflow.datasets import make_defects

# Pillow warns of more, as small files can hold them that are made to fill the memory.
Image.MAX_IMAGE_PIXELS = None

TILE = 1000
"""Side of the noise that the picture is tiled with."""

COLUMNS = ("file_mb", "seconds", "more_mb", "more_bytes_per_pixel")


def make_picture(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth picture under noise, made without arrays of its size other than itself."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 4, size=(TILE, TILE, 3)).astype(np.float32)
    picture = np.empty((height, width, 3), np.uint8)
    across = 40 * np.sin(np.linspace(0, 9, width, dtype=np.float32))[None, :, None]
    for top in range(0, height, TILE):
        rows = np.arange(top, min(top + TILE, height), dtype=np.float32)[:, None, None]
        for left in range(0, width, TILE):
            part = picture[top : top + TILE, left : left + TILE]
            smooth = 128 + across[:, left : left + TILE] + 40 * np.cos(rows / 700) + np.float32([0, 10, -10])
            part[...] = np.clip(smooth + noise[: part.shape[0], : part.shape[1]], 0, 255)
    return picture


def peak_memory() -> int:
    """Bytes of memory that this process has had at most, by the system's record."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(1024 * int(words[1]) for words in lines if words[0] == "VmHWM:")


def run(detector: Path, image: Path, form: str) -> dict[str, Any]:
    """Score in this process and measure."""
    fitted = joblib.load(detector)
    small = make_defects(n_normal=1, n_defective=0, random_state=0).images
    fitted.score_samples(small)
    picture: Any = image
    if form == "array":
        picture = np.load(image)
    elif form == "read in full":
        picture = Image.open(image)
    n_pixels = picture.shape[0] * picture.shape[1] if form == "array" else np.prod(Image.open(image).size)
    # What was freed since the peak would hide what is taken now.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    start = perf_counter()
    score = fitted.score_samples([picture])
    seconds = perf_counter() - start
    more = peak_memory() - before
    return {
        "file_mb": image.stat().st_size / 1e6,
        "seconds": seconds,
        "more_mb": more / 1e6,
        "more_bytes_per_pixel": float(more / n_pixels),
        "score": float(score[0]),
    }


N_TRAIN, N_GOOD, N_DEFECTIVE, SIDE = 28, 16, 8, 2304


def make_files() -> tuple[list[bytes], list[int]]:
    """Surfaces as JPEG files, and their labels: good ones first."""
    data = make_defects(n_normal=N_TRAIN + N_GOOD, n_defective=N_DEFECTIVE, size=SIDE, random_state=0)
    files = []
    for image in data.images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files, data.y.tolist()


def measure_shift() -> dict[str, Any]:
    """How far scores move where JPEGs are read at reduced size."""
    files, y = make_files()
    good = [file for file, label in zip(files, y, strict=True) if label == 1]
    tested = good[N_TRAIN:] + [file for file, label in zip(files, y, strict=True) if label != 1]
    detector = CSFlowDetector(input_size=256, n_jobs=1, random_state=0).fit(good[:N_TRAIN])
    scores, seconds = {}, {}
    usual = _extraction.LEAST_ENLARGEMENT
    for name, least in {"full": 10**6, "reduced": usual}.items():
        _extraction.LEAST_ENLARGEMENT = least
        start = perf_counter()
        scores[name] = detector.score_samples(tested)
        seconds[name] = perf_counter() - start
    shift = (scores["reduced"] - scores["full"]) / scores["full"][:N_GOOD].std()
    verdicts = {name: of_size < detector.offset_ for name, of_size in scores.items()}
    return {
        "seconds": seconds,
        "shift_rms": float(np.sqrt(np.mean(shift**2))),
        "shift_largest": float(np.abs(shift).max()),
        "other_verdicts": int((verdicts["full"] != verdicts["reduced"]).sum()),
        "n_scored": len(tested),
    }


def main() -> None:
    """Run, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=12000)
    parser.add_argument("--height", type=int, default=9000)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--no-shift", action="store_true")
    args = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit_images = make_defects(n_normal=12, n_defective=0, random_state=0).images
        detector = CSFlowDetector(input_size=256, n_epochs=1, n_jobs=args.n_jobs, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so short a training has hardly learnt
            joblib.dump(detector.fit(fit_images), folder / "detector.joblib")
        picture = make_picture(args.height, args.width)
        np.save(folder / "picture.npy", picture)
        image = Image.fromarray(picture)
        image.save(folder / "picture.jpg", quality=90)
        image.save(folder / "picture.png", compress_level=1)
        del picture, image
        for file, form in [
            ("picture.jpg", "file"),
            ("picture.jpg", "read in full"),
            ("picture.png", "file"),
            ("picture.npy", "array"),
        ]:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                found = fresh.submit(run, folder / "detector.joblib", folder / file, form).result()
            results[f"{Path(file).suffix[1:]}, {form}"] = found
    print_table(
        ["image", *COLUMNS], [[name, *(found[c] for c in COLUMNS)] for name, found in results.items()]
    )
    shift = None if args.no_shift else measure_shift()
    print(shift)
    write("large_images", {"arguments": vars(args), "results": results, "shift": shift})


if __name__ == "__main__":
    main()
