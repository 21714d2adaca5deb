"""Prints the lowest versions that pyproject.toml allows, as requirements for pip.

python .ci/floors.py [EXTRA ...] [-LEFT_OUT ...]

names the dependencies of the package and of the extras, without those of the extras after a dash.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
left_out = [name[1:] for name in sys.argv[1:] if name.startswith("-")]


def floors(requirements):
    for requirement in requirements:
        parts = re.fullmatch(r"([\w.-]+)(?:\[([\w,]+)\])?(?:>=([\w.]+))?", requirement)
        name, extras, version = parts.groups()
        if name == project["name"]:
            for extra in set(extras.split(",")) - set(left_out):
                yield from floors(project["optional-dependencies"][extra])
        else:
            yield f"{name}[{extras}]" if extras else name, version


asked = [f"{project['name']}[{name}]" for name in sys.argv[1:] if not name.startswith("-")]
lowest = dict(floors([*project["dependencies"], *asked]))
print(*(f"{name}=={version}" for name, version in sorted(lowest.items())), sep="\n")
