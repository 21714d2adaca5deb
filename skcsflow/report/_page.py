"""What a report says -> the page."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

__all__ = ["render"]

_MINUS = "\N{MINUS SIGN}"


def render(facts: dict[str, Any]) -> Iterator[str]:
    """Make the page, piece by piece.

    Parameters
    ----------
    facts : dict
        What the template asks for.

    Yields
    ------
    str
        The page's text. Every string of `facts` is escaped. The page's own policy lets the browser run this page's
        script alone, and load nothing from anywhere.
    """
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["number"] = _number
    environment.globals["percent"] = _percent
    style, script = Markup(_read("page.css")), Markup(_read("page.js"))
    template = environment.from_string(_read("page.html"))
    yield from template.generate(
        facts,
        style=style,
        script=script,
        policy=(
            "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"style-src {_source(style)}; script-src {_source(script)}"
        ),
    )


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """What a content security policy names a piece of the page by."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _percent(part: int, whole: int) -> str:
    # The script rounds halves up, which Python doesn't.
    return f"{100 * part / whole + 1e-9:.1f} %" if whole else "none"


def _number(value: float, decimals: int = 3) -> str:
    return f"{value:.{decimals}f}".replace("-", _MINUS)
