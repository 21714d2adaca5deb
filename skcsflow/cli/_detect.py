"""The commands that fit and calibrate a detector, and those that score folders."""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image

from skcsflow._detector import CSFlowDetector, Inspection
from skcsflow._files import ENDINGS, save
from skcsflow._whole_files import writing_whole
from skcsflow.cli._shared import (
    DEFAULT_FILE,
    Command,
    Outcome,
    add_detector,
    add_folder,
    add_settings,
    check_output,
    images_of,
    load_detector,
    new_detector,
    path_of,
    relative_names,
)
from skcsflow.datasets import list_images

__all__ = ["DETECT_COMMANDS"]

# fit


def _add_fit(parser: argparse.ArgumentParser) -> None:
    add_folder(parser, "images of good parts; or a folder with train/good in it, as in MVTec AD")
    parser.add_argument(
        "-o",
        "--output",
        type=path_of,
        default=Path(DEFAULT_FILE),
        metavar="FILE",
        help="where to save the detector, .skops or .joblib (default: %(default)s)",
    )
    add_settings(parser, "such as contamination=0.01")


def _fit(args: argparse.Namespace) -> Outcome:
    detector = new_detector(args)
    files = _training_images(args)
    check_output(args.output, ENDINGS)
    start = perf_counter()
    detector.fit(files)
    seconds = perf_counter() - start
    save(detector.set_params(verbose=0), args.output)
    result = {
        "output": str(args.output),
        "n_images": len(files),
        "seconds": round(seconds, 1),
        "threshold": detector.offset_,
        "map_threshold": detector.map_threshold_,
    }
    text = f"Fitted on {len(files)} images in {seconds:.0f} s. Saved as {args.output}."
    return Outcome(result, text)


def _training_images(args: argparse.Namespace) -> list[str]:
    good = args.folder / "train" / "good"
    if not good.is_dir():
        return images_of(args, args.folder)
    print(f"skcsflow: fitting on {good}", file=sys.stderr)
    return list_images(good, recursive=True)


# calibrate


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    add_folder(parser, "images of good parts that the detector was not fitted on")
    add_detector(parser)
    parser.add_argument(
        "--fpr",
        type=float,
        default=0.05,
        metavar="RATE",
        help="the share of good parts that may be called defective (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path_of,
        metavar="FILE",
        help="where to save it (default: the detector's own file)",
    )
    add_settings(parser, "for this call, such as on_error=nan")


def _calibrate(args: argparse.Namespace) -> Outcome:
    output = args.output or args.detector
    check_output(output, ENDINGS)
    files = images_of(args, args.folder)
    detector = load_detector(args).calibrate(files, fpr=args.fpr)
    n_images = len(detector.calibration_scores_)
    save(detector.set_params(verbose=0), output)
    result = {
        "output": str(output),
        "n_images": n_images,
        "n_unreadable": len(files) - n_images,
        "fpr": args.fpr,
        "threshold": detector.offset_,
        "map_threshold": detector.map_threshold_,
    }
    text = (
        f"Calibrated by {n_images} images: at most {args.fpr:.2%} of good parts are called defective. "
        f"Saved as {output}."
    )
    return Outcome(result, text, is_well=n_images == len(files))


# score


def _add_score(parser: argparse.ArgumentParser) -> None:
    add_folder(parser, "images to score")
    add_detector(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="-",
        help="the table, .csv, .jsonl or .parquet; - prints CSV (default: %(default)s)",
    )
    parser.add_argument(
        "--fail-on-anomaly", action="store_true", help="end with exit code 3 if an image is called anomalous"
    )
    add_settings(parser, "for this call, such as n_jobs=1")


def _score(args: argparse.Namespace) -> Outcome:
    write = _writer(args.output)
    detector = load_detector(args, on_error="nan")
    files = images_of(args, args.folder)
    rows = [row for row, _ in _inspect(detector, files, args.folder)]
    n_anomalous = sum(row["label"] == -1 and not row["error"] for row in rows)
    n_unreadable = sum(bool(row["error"]) for row in rows)
    result: dict[str, Any] = {
        "n_images": len(rows),
        "n_anomalous": n_anomalous,
        "n_unreadable": n_unreadable,
        "threshold": detector.offset_,
    }
    counts = f"{n_anomalous} of {len(rows)} images are anomalous"
    counts += f", {n_unreadable} can't be read." if n_unreadable else "."
    is_well = not n_unreadable and not (args.fail_on_anomaly and n_anomalous)
    if args.output == "-":
        if args.json:
            return Outcome({**result, "images": rows}, "", is_well)
        print(counts, file=sys.stderr)
        return Outcome(result, _as_csv(rows).rstrip("\n"), is_well)
    write(rows)
    return Outcome({"output": args.output, **result}, f"{counts} Saved as {args.output}.", is_well)


def _inspect(
    detector: CSFlowDetector, files: list[str], folder: Path
) -> Iterator[tuple[dict[str, Any], Inspection]]:
    """The row of the table for each image, and all that it is made of."""
    names = relative_names(files, folder)
    for name, found in zip(names, detector.inspect(files), strict=True):
        is_read = found.error is None
        row = {
            "file": name,
            "score": found.score if is_read else None,
            "label": found.verdict,
            "p_value": None if math.isnan(found.p_value) else found.p_value,
            "peak": float(found.anomaly_map.max()) if is_read else None,
            "flagged_area": float(found.mask.mean()) if is_read else None,
            "n_regions": len(found.regions) if is_read else None,
            "error": " ".join((found.error or "").split()),
        }
        yield row, found


def _writer(output: str) -> Callable[[list[dict[str, Any]]], None]:
    """What writes rows to that file; what is wrong with the file shows now."""
    path = Path(output).expanduser()
    endings: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
        ".csv": lambda rows: _as_csv(rows).encode(),
        ".jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
        ".parquet": _as_parquet,
    }
    if output == "-":
        return lambda rows: None
    check_output(path, list(endings))
    if path.suffix.lower() == ".parquet":
        _import_pyarrow()

    def write(rows: list[dict[str, Any]]) -> None:
        with writing_whole(path) as unfinished:
            unfinished.write_bytes(endings[path.suffix.lower()](rows))

    return write


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    pyarrow = _import_pyarrow()
    types = [pyarrow.string(), pyarrow.float64(), pyarrow.int64(), pyarrow.float64(), pyarrow.float64()]
    types += [pyarrow.float64(), pyarrow.int64(), pyarrow.string()]
    columns = list(zip(rows[0], types, strict=True))
    schema = pyarrow.schema(columns)  # a column without any value has a type too
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), buffer)
    return buffer.getvalue().to_pybytes()


def _import_pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "A table in .parquet needs pyarrow: pip install pyarrow. Or choose .csv or .jsonl."
        ) from error
    return pyarrow


# maps


def _add_maps(parser: argparse.ArgumentParser) -> None:
    add_folder(parser, "images to look for defects in")
    add_detector(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=path_of,
        required=True,
        metavar="FOLDER",
        help="gets, for each image, NAME.map.tiff of 32-bit floats and NAME.mask.png, black and white",
    )
    add_settings(parser, "for this call, such as n_jobs=1")


def _maps(args: argparse.Namespace) -> Outcome:
    detector = load_detector(args, on_error="nan")
    files = images_of(args, args.folder)
    output = args.output
    if output.resolve().is_relative_to(args.folder.resolve()):
        raise ValueError(f"--output {str(output)!r} lies in the folder of the images. Name another one.")
    if output.is_file():
        raise NotADirectoryError(f"--output {str(output)!r} is a file. Name a folder.")
    n_written, n_unreadable = 0, 0
    for row, found in _inspect(detector, files, args.folder):
        if row["error"]:
            print(f"skcsflow: warning: {row['file']}: {row['error']}", file=sys.stderr)
            n_unreadable += 1
            continue
        place = output / row["file"]
        place.parent.mkdir(parents=True, exist_ok=True)
        _write_picture(found.anomaly_map, Path(f"{place}.map.tiff"))
        _write_picture(found.mask, Path(f"{place}.mask.png"))
        n_written += 1
    result = {"output": str(args.output), "n_images": len(files), "n_unreadable": n_unreadable}
    text = f"Saved maps and masks of {n_written} images in {args.output}."
    return Outcome(result, text, is_well=not n_unreadable)


def _write_picture(array: Any, path: Path) -> None:
    with writing_whole(path) as unfinished:
        Image.fromarray(array).save(unfinished, path.suffix[1:])


DETECT_COMMANDS = [
    Command(
        "fit",
        "learn what good parts look like",
        _add_fit,
        _fit,
        [
            "fit images/good -o detector.skops",
            "fit images/good --set contamination=0.01 --set input_size=320",
        ],
    ),
    Command(
        "calibrate",
        "set the thresholds by other good images",
        _add_calibrate,
        _calibrate,
        ["calibrate images/more_good --fpr 0.01"],
    ),
    Command(
        "score",
        "score images, and say which are anomalous",
        _add_score,
        _score,
        ["score images/new -o scores.csv", "score images/new --json", "score images/new --fail-on-anomaly"],
    ),
    Command("maps", "save where images are anomalous", _add_maps, _maps, ["maps images/new -o maps"]),
]
