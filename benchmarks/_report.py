"""Tables on the screen and JSON in ``benchmarks/results/``, with what they were measured on."""

import json
import os
import platform
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "skcsflow",
    "torch",
    "timm",
    "scikit-learn",
    "numpy",
    "anomalib",
    "openvino",
    "onnxruntime",
    "pillow",
    "hypothesis",
)


def environment() -> dict[str, Any]:
    """Versions, hardware and date."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in Markdown, floats with three decimals."""
    cells = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    for row in cells:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")


def with_earlier(
    name: str,
    arguments: dict[str, Any],
    results: dict[str, dict[str, Any]],
    asked: Collection[tuple[str, str]],
) -> dict[str, dict[str, Any]]:
    """Results in two levels, and those of the file of before that nobody asked for now, where its arguments agree.

    The latter have the environment that they were measured in.
    """
    path = RESULTS / f"{name}.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    merged: dict[str, dict[str, Any]] = {}
    if earlier.get("arguments") == json.loads(json.dumps(arguments)):
        for outer, inner in earlier["results"].items():
            merged[outer] = {
                k: {"environment": earlier["environment"], **result}
                for k, result in inner.items()
                if (outer, k) not in asked
            }
    for outer, inner in results.items():
        merged[outer] = {**merged.get(outer, {}), **inner}
    return merged


def write(name: str, results: dict[str, Any]) -> None:
    """Write a benchmark's results, with its environment, to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), **results}, indent=2, allow_nan=False) + "\n")
    print(f"wrote {path.relative_to(Path(__file__).parent.parent)}")
