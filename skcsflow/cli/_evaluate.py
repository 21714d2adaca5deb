"""The commands that say how good a detector is, show what it finds, and tell what it is."""

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from skcsflow._detector import CSFlowDetector
from skcsflow._files import load_single
from skcsflow._version import __version__
from skcsflow.cli._shared import (
    Command,
    Outcome,
    add_detector,
    add_folder,
    add_settings,
    images_of,
    load_detector,
    new_detector,
    path_of,
    relative_names,
)
from skcsflow.datasets import load_image_folder, read_mask
from skcsflow.metrics import f1_max, pixel_roc_auc_score, pro_auc_score

__all__ = ["EVALUATE_COMMANDS"]

N_BINS = 2**16
"""Of the metrics of pixels: memory that doesn't grow, and errors below 1e-4."""

MAX_FPR = 0.3


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


EVALUATE_COMMANDS = [
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
