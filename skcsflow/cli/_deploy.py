"""The commands that put a detector on a line."""

import argparse
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from skcsflow._files import load_single
from skcsflow.cli._shared import (
    Command,
    Outcome,
    add_detector,
    check_output,
    images_of,
    load_detector,
    path_of,
)

__all__ = ["DEPLOY_COMMANDS"]

KEY_VARIABLE = "SKCSFLOW_API_KEY"
"""Where the API key is read from: arguments of a process are seen by everybody on its machine."""


# export


def _add_export(parser: argparse.ArgumentParser) -> None:
    add_detector(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=path_of,
        default=Path("model.onnx"),
        metavar="FILE",
        help="the ONNX file (default: %(default)s)",
    )
    parser.add_argument(
        "--check", type=path_of, metavar="FOLDER", help="images to compare it on (default: patterns)"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="take the folders in it too")
    parser.add_argument(
        "--dtype",
        default="uint8",
        choices=["uint8", "uint16", "float32"],
        help="type of the images that it takes (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size of the images that it takes (default: any)",
    )
    parser.add_argument(
        "--bgr", action="store_true", help="it takes colours in OpenCV's order: blue, green, red"
    )


def _export(args: argparse.Namespace) -> Outcome:
    from skcsflow.export import to_onnx

    check_output(args.output, [".onnx"])
    files = None if args.check is None else images_of(args, args.check)
    found = to_onnx(
        load_detector(args),
        args.output,
        X=files,
        dtype=args.dtype,
        image_size=None if args.size is None else tuple(args.size),
        channel_order="bgr" if args.bgr else "rgb",
    )
    megabytes = args.output.stat().st_size / 1e6
    result = {"output": str(args.output), "megabytes": round(megabytes, 1), **_differences(found)}
    return Outcome(result, f"Saved {args.output} ({megabytes:.1f} MB). {_verdict(found)}")


def _differences(found: Any) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "rows"}


def _verdict(found: Any) -> str:
    return (
        f"The largest differences on {found.n_images} images: scores {found.score_difference:.1e}, maps "
        f"{found.map_difference:.1e}, masks {found.mask_difference:.1e}, p-values {found.p_value_difference:.1e} (nan: "
        f"none); labels that differ: {found.n_labels_differ}."
    )


# verify


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=path_of, metavar="MODEL.onnx", help="what 'skcsflow export' wrote")
    parser.add_argument("detector", type=path_of, metavar="DETECTOR", help="the detector that it was made of")
    parser.add_argument("folder", type=path_of, metavar="FOLDER", help="images to compare them on")
    parser.add_argument("-r", "--recursive", action="store_true", help="take the folders in it too")
    parser.add_argument(
        "--engine",
        default="onnxruntime",
        choices=["onnxruntime", "openvino"],
        help="what runs the file (default: %(default)s)",
    )


def _verify(args: argparse.Namespace) -> Outcome:
    from skcsflow.export import verify_onnx

    found = verify_onnx(
        args.model, load_single(args.detector), images_of(args, args.folder), engine=args.engine
    )
    text = f"{'They agree' if found.passed else 'They DIFFER'}. {_verdict(found)}"
    return Outcome(_differences(found), text, is_well=found.passed)


# serve


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "detectors",
        nargs="+",
        metavar="[NAME=]FILE",
        help="detectors, each under its name; by default that is its file's, without the ending",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen at (default: %(default)s)")
    parser.add_argument(
        "--max-bytes", type=int, default=32 * 2**20, help="largest upload (default: %(default)s)"
    )
    parser.add_argument(
        "--max-pixels", type=int, default=64_000_000, help="largest image (default: %(default)s)"
    )
    parser.epilog = (
        f"The API key, if there is to be one, is read from the variable {KEY_VARIABLE}.\n\n{parser.epilog}"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 65535")
    return int(text)


def _serve(args: argparse.Namespace) -> Outcome:
    from skcsflow.serving import serve

    detectors = {}
    for text in args.detectors:
        name, equals, file = text.partition("=")
        if not equals or Path(text).exists():
            name, file = Path(text).stem, text
        if name in detectors:
            raise ValueError(f"Two detectors are called {name!r}. Give them names: NAME=FILE.")
        detectors[name] = file
    try:
        serve(
            detectors,
            host=args.host,
            port=args.port,
            api_key=os.environ.get(KEY_VARIABLE) or None,
            max_bytes=args.max_bytes,
            max_pixels=args.max_pixels,
        )
    except SystemExit as error:  # the log above says why
        raise OSError(f"It can't listen at {args.host}, port {args.port}.") from error
    return Outcome({}, "")


# watch


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="IN", type=path_of, help="where images come")
    parser.add_argument(
        "output", metavar="OUT", type=path_of, help="gets results.jsonl, a line for each image"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="take the folders in IN too")
    add_detector(parser)
    parser.add_argument("--overlays", action="store_true", help="save pictures with the defects outlined too")
    parser.add_argument("--masks", action="store_true", help="save masks too")
    parser.add_argument(
        "--settle",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="how long a file must have been at rest before it is read (default: %(default)s)",
    )


def _watch(args: argparse.Namespace) -> Outcome:
    from skcsflow.serving import watch

    def show(line: dict[str, Any]) -> None:
        if not args.quiet:
            with suppress(BrokenPipeError):  # who looks on may go; the watch goes on
                print(json.dumps(line), flush=True)

    print(f"skcsflow: watching {args.folder}; Ctrl-C ends it", file=sys.stderr)
    n_images = watch(
        load_detector(args),
        args.folder,
        args.output,
        recursive=args.recursive,
        settle=args.settle,
        overlays=args.overlays,
        masks=args.masks,
        on_result=show,
    )
    print(f"skcsflow: images inspected: {n_images}", file=sys.stderr)
    return Outcome({}, "")  # what was printed are the lines themselves


DEPLOY_COMMANDS = [
    Command(
        "export",
        "write one ONNX file that says what the detector says, without Python",
        _add_export,
        _export,
        ["export -o model.onnx --check images/new", "export --size 1024 1280 --bgr"],
    ),
    Command(
        "verify",
        "compare an ONNX file with its detector",
        _add_verify,
        _verify,
        ["verify model.onnx detector.skops images/new"],
    ),
    Command(
        "serve",
        "answer requests by HTTP until Ctrl-C",
        _add_serve,
        _serve,
        ["serve detector.skops", "serve left=left.skops right=right.skops --port 8080"],
    ),
    Command(
        "watch",
        "inspect the images in a folder, and those that come into it, until Ctrl-C; print a line of JSON for each",
        _add_watch,
        _watch,
        ["watch camera results --overlays"],
    ),
]
