"""One direction only: a room imports from rooms below it, never from above."""

import ast
from pathlib import Path

import pytest

import skcsflow

ROOT = Path(skcsflow.__file__).parent
BELOW = {  # what each room may import of the package
    "_detector": {
        "_validation",
        "_images",
        "_features",
        "_cache",
        "_storage",
        "_training",
        "_persistence",
        "_batches",
        "_openvino",
        "_maps",
        "_calibrated",
        "nn",
        "_device",
    },
    "_maps": {"_batches", "_device", "_features", "_images", "_regions", "nn"},
    "_regions": set(),
    "_calibrated": {"_cache", "_labels", "_maps", "_validation", "calibration"},
    "calibration": {"_labels"},
    "metrics": {"_labels"},
    "plotting": {"_labels", "datasets"},
    "datasets": set(),
    "_labels": set(),
    "_validation": {"_training", "nn", "_device"},
    "_images": set(),
    "_features": {"_batches", "_cache", "_openvino", "_packed", "_storage", "nn", "_device"},
    "_cache": set(),
    "_storage": set(),
    "_training": {"_cuda_graph", "_storage", "nn", "_device"},
    "_cuda_graph": set(),
    "_persistence": {"nn"},
    "_batches": {"_weights_cache", "_device"},
    "_openvino": {"_weights_cache", "nn"},
    "_packed": {"_weights_cache", "nn"},
    "_weights_cache": set(),
    "nn": set(),
    "_device": set(),
}
FORBIDDEN = {  # packages that a room must do without
    "nn": {"sklearn", "joblib", "PIL", "pandas", "polars", "matplotlib"},
    "_device": {"sklearn", "joblib", "timm", "PIL"},
    "_batches": {"sklearn", "timm", "PIL"},
    "_openvino": {"sklearn", "timm", "PIL"},
    "_cuda_graph": {"sklearn", "joblib", "timm", "PIL"},
    "_training": {"sklearn", "joblib", "timm", "PIL"},
    "_features": {"sklearn", "joblib"},
    "_cache": {"torch", "timm", "PIL"},
    "_storage": {"sklearn", "joblib", "timm", "PIL"},
    "_validation": {"timm", "PIL", "joblib"},
    "_images": {"sklearn", "timm"},
    "_persistence": {"sklearn", "PIL"},
    "_detector": {"timm", "PIL", "joblib"},
    "_maps": {"timm", "PIL", "joblib"},
    "_regions": {"torch", "timm", "PIL", "joblib"},
    "_calibrated": {"torch", "timm", "PIL", "joblib"},
    "calibration": {"torch", "timm", "PIL", "joblib"},
    "metrics": {"torch", "timm", "PIL", "joblib", "matplotlib"},
    "plotting": {"torch", "timm", "joblib"},
    "_labels": {"torch", "timm", "PIL", "joblib"},
}


def imports(source, path):
    """Names of all modules that a source imports, wherever in it."""
    package = ["skcsflow", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join([*package[: len(package) - node.level + 1], module]).rstrip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files(room):
    return [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))


def rooms_imported(room):
    for path in files(room):
        for name in imports(path.read_text(encoding="utf-8"), path):
            parts = name.split(".")
            if parts[0] == "skcsflow" and len(parts) > 1 and parts[1] != room:
                yield parts[1]


@pytest.mark.parametrize("room", BELOW)
def test_room_imports_from_below_alone(room):
    assert files(room)
    assert set(rooms_imported(room)) <= BELOW[room]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_does_without_packages_of_others(room):
    packages = {name.split(".")[0] for path in files(room) for name in imports(path.read_text("utf-8"), path)}
    assert not packages & FORBIDDEN[room]


def test_rooms_that_stand_beside_are_imported_by_none():
    beside = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    beside -= {*BELOW, "__init__"}
    assert "model_selection" in beside
    for room in BELOW:
        assert not set(rooms_imported(room)) & beside


def test_imports_are_found_in_every_form():
    source = "import skcsflow.a\nfrom skcsflow import b\nfrom . import c\ndef f():\n    from .d.e import g\n"
    found = set(imports(source, ROOT / "x.py"))
    assert {"skcsflow.a", "skcsflow.b", "skcsflow.c", "skcsflow.d.e"} <= found
