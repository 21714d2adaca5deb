"""What a report says -> the page."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from typing import Any

__all__ = ["render", "require_jinja2"]

_MINUS = "\N{MINUS SIGN}"


def require_jinja2() -> Any:
    """Import jinja2, or say how to get it."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            'write_report needs jinja2. Install it with pip install "skcsflow[report]".'
        ) from error
    return jinja2


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
    jinja2 = require_jinja2()
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = _number
    environment.globals["percent"] = _percent
    style, script = _read("page.css"), _read("page.js")
    template = environment.from_string(_read("page.html"))
    yield from template.generate(
        facts,
        style=jinja2.utils.markupsafe.Markup(style),
        script=jinja2.utils.markupsafe.Markup(script),
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
