"""The direction of imports: a room knows the rooms below it, never those above."""

import ast
from pathlib import Path

import skcsflow

ROOT = Path(skcsflow.__file__).parent
BELOW = {
    "_detector": {"_features", "_images", "_training", "_persistence", "_device", "nn"},
    "_images": set(),
    "_features": {"_batches", "_device", "nn"},
    "_training": {"_device", "nn"},
    "_persistence": {"nn"},
    "_batches": {"_device"},
    "_device": set(),
    "nn": set(),
    "datasets": set(),
    "model_selection": set(),
}


def rooms_imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            package, _, rest = (module or "").partition(".")
            if package == "skcsflow":
                yield rest.split(".")[0]


def test_imports_point_downwards():
    seen = set()
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        seen.add(room)
        above = set(rooms_imported_by(path)) - BELOW[room] - {room}
        assert not above, f"{path.relative_to(ROOT)} imports {above}"
    assert seen == set(BELOW)


def test_nn_knows_nothing_of_scikit_learn():
    for path in (ROOT / "nn").glob("*.py"):
        assert "sklearn" not in path.read_text(), path.name
