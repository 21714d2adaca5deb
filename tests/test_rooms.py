"""One direction only: a room imports from rooms below it, and only what they show."""

import ast
from pathlib import Path

import pytest

import skcsflow

ROOT = Path(skcsflow.__file__).parent
BELOW = {  # what each room may import of the package
    "serving": {"_checks", "_detector", "_files", "_images", "_version"},
    "export": {"_checks", "_compute", "_images", "_whole_files", "nn"},
    "_detector": {
        "_checkpoints",
        "_checks",
        "_compute",
        "_digests",
        "_features",
        "_images",
        "_labels",
        "_regions",
        "_scoring",
        "_training",
        "_version",
        "_whole_files",
        "calibration",
        "nn",
    },
    "__main__": {"cli"},
    "cli": {
        "_detector",
        "_files",
        "_version",
        "_whole_files",
        "datasets",
        "export",
        "metrics",
        "report",
        "serving",
    },
    "_files": {"_checks", "_detector", "_grouped", "_whole_files"},
    "_grouped": {"_checks", "_detector", "_labels"},
    "monitoring": {"_checks"},
    "_scoring": {"_compute", "_features", "_images", "nn"},
    "_training": {"_checkpoints", "_checks", "_compute", "_features", "nn"},
    "_checkpoints": {"_checks", "_digests", "_whole_files"},
    "_features": {"_checks", "_compute", "_version", "_whole_files"},
    "_compute": {"_checks", "_images", "nn"},
    "_images": {"_checks"},
    "nn": {"_checks"},
    "calibration": {"_checks", "_labels", "_threshold_curve"},
    "metrics": {"_checks", "_images", "_labels", "_regions", "_threshold_curve", "datasets"},
    "plotting": {"_checks", "_images", "_labels", "_regions", "datasets", "metrics"},
    "model_selection": {"_checks", "_labels", "metrics"},
    "report": {"_checks", "_images", "_labels", "_version", "_whole_files"},
    "datasets": {"_checks", "_images", "_regions"},
    "_labels": {"_checks"},
    "_regions": {"_checks"},
    "_checks": set(),
    "_digests": set(),
    "_threshold_curve": set(),
    "_version": set(),
    "_whole_files": set(),
}
FORBIDDEN = {  # packages that a room must do without
    "nn": {"sklearn", "joblib", "PIL", "pandas", "polars", "matplotlib"},
    "_compute": {"sklearn", "timm", "PIL"},
    "_training": {"sklearn", "joblib", "timm", "PIL"},
    "_scoring": {"sklearn", "joblib", "timm", "PIL"},
    "_images": {"sklearn", "timm", "joblib"},
    "_detector": {"PIL", "joblib"},
    "_regions": {"torch", "timm", "PIL", "joblib"},
    "_checks": {"torch", "timm", "PIL", "joblib"},
    "_labels": {"torch", "timm", "PIL", "joblib"},
    "calibration": {"torch", "timm", "PIL", "joblib"},
    "metrics": {"torch", "timm", "PIL", "joblib", "matplotlib"},
    "plotting": {"torch", "timm", "joblib"},
    "serving": {"timm", "pandas", "polars", "matplotlib"},
    "report": {"timm", "joblib", "matplotlib"},
    "export": {"timm", "PIL", "joblib"},
}


def imports(source, path):
    """Names of all modules that a source imports, wherever in it, each with the names taken from it."""
    package = ["skcsflow", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join([*package[: len(package) - node.level + 1], module]).rstrip(".")
            yield module, [alias.name for alias in node.names]


def files(room):
    return [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))


def imports_of_other_rooms(room):
    """Of each import from another room: the room, the path below it, and the names taken."""
    for path in files(room):
        for module, names in imports(path.read_text(encoding="utf-8"), path):
            package, *parts = module.split(".")
            if package == "skcsflow":
                for place in [[*parts]] if parts else [[name] for name in names]:
                    if place[0] != room:
                        yield place[0], place[1:], names


def test_every_room_is_on_the_list():
    found = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert found - {"__init__"} == set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_room_imports_from_below_alone(room):
    assert files(room)
    assert {other for other, _, _ in imports_of_other_rooms(room)} <= BELOW[room]


@pytest.mark.parametrize("room", BELOW)
def test_room_takes_only_what_other_rooms_show(room):
    for other, inside, names in imports_of_other_rooms(room):
        assert not inside, f"{room} reaches into {other}.{'.'.join(inside)}"
        assert not [name for name in names if name.startswith("_") and name != "__version__"], (room, names)


def test_rooms_have_no_circle():
    above = dict(BELOW)
    while above:
        ground = {room for room, below in above.items() if not below & above.keys()}
        assert ground, f"these import each other: {sorted(above)}"
        above = {room: below for room, below in above.items() if room not in ground}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_does_without_packages_of_others(room):
    packages = {
        name.split(".")[0] for path in files(room) for name, _ in imports(path.read_text("utf-8"), path)
    }
    assert not packages & FORBIDDEN[room]


def test_image_files_are_opened_in_one_room():
    for path in ROOT.rglob("*.py"):
        if "_images" not in path.parts:
            assert "Image.open" not in path.read_text(encoding="utf-8").replace(">>> ", ""), path


def test_public_classes_say_where_users_import_them_from():
    packages = [skcsflow]
    packages += [
        __import__(f"skcsflow.{name}", fromlist=["x"])
        for name in (
            "nn",
            "calibration",
            "metrics",
            "model_selection",
            "monitoring",
            "datasets",
            "plotting",
            "serving",
        )
    ]
    for package in packages:
        for name in package.__all__:
            value = getattr(package, name)
            if isinstance(value, type):
                assert value.__module__ == package.__name__, name


def test_imports_are_found_in_every_form():
    source = "import skcsflow.a\nfrom skcsflow import b\nfrom . import c\ndef f():\n    from .d.e import g\n"
    found = list(imports(source, ROOT / "x.py"))
    assert found == [("skcsflow.a", []), ("skcsflow", ["b"]), ("skcsflow", ["c"]), ("skcsflow.d.e", ["g"])]
