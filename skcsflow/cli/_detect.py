"""The commands that fit a detector, and those that use one on folders."""

import argparse
import csv
import io
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from skcsflow._detector import CSFlowDetector, Inspection
from skcsflow._files import ENDINGS, load_single, save
from skcsflow._version import __version__
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
from skcsflow.datasets import list_images, load_image_folder, read_mask
from skcsflow.metrics import f1_max, pixel_roc_auc_score, pro_auc_score

__all__ = ["DETECT_COMMANDS"]

N_BINS = 2**16
"""Of the metrics of pixels: memory that doesn't grow, and errors below 1e-4."""

MAX_FPR = 0.3


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


# evaluate


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=path_of,
        help="a folder as in MVTec AD: train/good, test/good, test/DEFECT, ground_truth/DEFECT",
    )
    parser.add_argument(
        "-d",
        "--detector",
        type=path_of,
        metavar="FILE",
        help="the fitted detector (default: one is fitted on train/good)",
    )
    add_settings(parser, "such as n_epochs=20")


def _evaluate(args: argparse.Namespace) -> Outcome:
    data = load_image_folder(args.folder)
    is_defective = data.y_test == -1
    if is_defective.all() or not is_defective.any():
        raise ValueError(f"{str(args.folder)!r} needs good and defective images in its folder test.")
    if args.detector is None:
        detector = new_detector(args)
        detector.fit(list(data.train))
    else:
        detector = load_detector(args)
    detector.set_params(on_error="nan")
    has_truth = ~is_defective | np.array([mask is not None for mask in data.masks])
    scores, masks, maps, labels, is_read = [], [], [], [], []
    for k, found in enumerate(detector.inspect(list(data.test))):
        is_read.append(found.error is None)
        if found.error is not None:
            continue
        scores.append(found.score)
        labels.append(found.verdict)
        if has_truth[k]:
            masks.append(read_mask(data.masks[k], tuple(data.test_sizes[k])))
            maps.append(found.anomaly_map)
    is_defective, defect = is_defective[is_read], data.defect[is_read]
    anomaly, flagged = -np.array(scores), np.array(labels) == -1
    figures: dict[str, float] = {
        "image_auroc": float(roc_auc_score(is_defective, anomaly)),
        "image_f1_max": float(f1_max(is_defective, anomaly)),
        "false_positive_rate": float(flagged[~is_defective].mean()),
        "found": float(flagged[is_defective].mean()),
    }
    if any(mask.any() for mask in masks):
        figures["pixel_auroc"] = float(pixel_roc_auc_score(masks, maps, n_bins=N_BINS))
        figures["au_pro"] = float(pro_auc_score(masks, maps, max_fpr=MAX_FPR, n_bins=N_BINS))
    kinds = {}
    for kind in sorted(set(defect[is_defective])):
        rows = defect == kind
        kinds[str(kind)] = {
            "n": int(rows.sum()),
            "image_auroc": float(
                roc_auc_score(is_defective[~is_defective | rows], anomaly[~is_defective | rows])
            ),
            "found": float(flagged[rows].mean()),
        }
    n_unreadable = is_read.count(False)
    result = {
        "n_train": len(data.train) if args.detector is None else None,
        "n_test": len(data.test),
        "n_unreadable": n_unreadable,
        **figures,
        "defects": kinds,
    }
    lines = [f"{name.replace('_', ' '):<22}{value:.3f}" for name, value in figures.items()]
    lines += ["", f"{'defect':<22}{'images':>8}{'AUROC':>8}{'found':>8}"]
    lines += [f"{k:<22}{v['n']:>8}{v['image_auroc']:>8.3f}{v['found']:>8.2f}" for k, v in kinds.items()]
    return Outcome(result, "\n".join(lines), is_well=not n_unreadable)


# report


def _add_report(parser: argparse.ArgumentParser) -> None:
    add_folder(parser, "images to report on")
    add_detector(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=path_of,
        default=Path("report.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    parser.add_argument("--title", help="the page's title")
    parser.add_argument(
        "--labels",
        action="store_true",
        help="take images below a folder called good as good, and all others as defective",
    )
    add_settings(parser, "for this call, such as n_jobs=1")


def _report(args: argparse.Namespace) -> Outcome:
    from skcsflow.report import write_report

    detector = load_detector(args, on_error="nan")
    files = images_of(args, args.folder)
    y = None
    if args.labels:
        folders = [[part.lower() for part in Path(file).resolve().parts[:-1]] for file in files]
        y = [1 if "good" in parts else -1 for parts in folders]
        if len(set(y)) < 2:
            raise ValueError(
                f"--labels needs images in a folder called good, and others, in {str(args.folder)!r}."
            )
    write_report(
        detector, files, args.output, y=y, title=args.title, names=relative_names(files, args.folder)
    )
    return Outcome({"output": str(args.output), "n_images": len(files)}, f"Saved {args.output}.")


# info


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        type=path_of,
        metavar="FILE",
        help="a fitted detector (default: the versions installed)",
    )


def _info(args: argparse.Namespace) -> Outcome:
    if args.file is None:
        import sklearn
        import timm

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        versions: dict[str, Any] = {
            "skcsflow": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "timm": timm.__version__,
            "scikit-learn": sklearn.__version__,
            "cuda": device,
            "cores": os.cpu_count(),
        }
        return Outcome(versions, _as_lines(versions))
    detector = load_single(args.file)
    check_is_fitted(detector)
    model = detector.model_
    result = {
        "file": str(args.file),
        "megabytes": round(args.file.stat().st_size / 1e6, 1),
        "backbone": detector.backbone,
        "input_size": list(model.input_size),
        "strides": list(detector.strides),
        "threshold": detector.offset_,
        "map_threshold": detector.map_threshold_,
        "n_calibration_images": len(getattr(detector, "calibration_scores_", [])),
        "epochs": len(detector.history_["loss"]),
        "parameters": {name: _plain(value) for name, value in _changed_parameters(detector).items()},
    }
    return Outcome(result, _as_lines(result))


def _changed_parameters(detector: CSFlowDetector) -> dict[str, Any]:
    usual = CSFlowDetector().get_params()
    return {
        name: value for name, value in detector.get_params().items() if _plain(value) != _plain(usual[name])
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _as_lines(values: dict[str, Any]) -> str:
    width = 2 + max(map(len, values))
    return "\n".join(f"{name.replace('_', ' '):<{width}}{value}" for name, value in values.items())


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
    Command(
        "evaluate",
        "measure how well defects are found, where they are known",
        _add_evaluate,
        _evaluate,
        ["evaluate mvtec/bottle", "evaluate mvtec/bottle -d detector.skops --json"],
    ),
    Command(
        "report",
        "write a page of all images, scores and maps, to look at in a browser",
        _add_report,
        _report,
        ["report images/new -o report.html"],
    ),
    Command(
        "info",
        "tell what a detector is, or which versions are installed",
        _add_info,
        _info,
        ["info detector.skops"],
    ),
]
