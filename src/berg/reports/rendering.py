"""The page's template, style and script, filled and put into one text."""

from __future__ import annotations

import json
from importlib import resources
from importlib.util import find_spec
from typing import Any

from berg import __version__
from berg.errors import MissingExtraError

_FOLDER = resources.files("berg.reports") / "page"
_SCRIPTS = ("mesh.js", "brain.js", "controls.js", "page.js")
_NEEDED = ("jinja2", "matplotlib", "nilearn")


def check_installed() -> None:
    """Raise `MissingExtraError` if a package that pages are made with is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            "a report needs packages that are not installed",
            got=f"no {', no '.join(missing)}",
            accepted=", ".join(_NEEDED),
            do='pip install "berg[report]"',
        )


def render(template: str, data: dict[str, Any], **content: Any) -> str:
    """Return the page.

    Names of images and whatever else was read from files is text to the page, never markup:
    the template escapes it, and in the data no ``<`` is left that could end their element.

    Parameters
    ----------
    template : str
        ``"responses"`` or ``"model"``.
    data : dict
        What the script reads, as JSON.
    **content
        What the template shows.

    Returns
    -------
    str
        HTML that refers to nothing outside of itself but links to follow.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{template}.html.jinja").render(
        **content,
        berg_version=__version__,
        css=Markup(_read("report.css")),
        js=Markup("\n".join(map(_read, _SCRIPTS))),
        data=Markup(
            json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        ),
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
