"""Figures in files: PNG, SVG, PDF; the same figure gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berg.atomic import write_atomically
from berg.errors import InvalidParameterError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
"""What figures are written as, by the ends of their files' names."""

# Journals ask for 300 of figures with colours. Inside SVG and PDF only the brains are pixels, and
# at 180 these lie closer (0.4 mm) than vertices; more would make files of 8 MB.
_DPI = {"png": 300, "svg": 180, "pdf": 180}


def save_figure(
    figure: Figure,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    dpi: int | None = None,
) -> None:
    """Write a figure, whole or not at all.

    In SVG, text is text: it can be searched, read aloud and edited; the brains are pictures in it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
        Its suffix says the format: ``.png``, ``.svg`` or ``.pdf``.
    title : str, optional
        Is written into the file.
    dpi : int, optional
        Dots per inch; in SVG and PDF, of the pictures of brains. By default 300 in PNG, and 180
        in SVG and PDF, which have everything else as lines and text.

    Raises
    ------
    InvalidParameterError
        The suffix is none of these.
    ResourceError
        The file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    check_format(kind)
    dpi = dpi or _DPI[kind]
    said = {"Title": title} if title else {}
    content: str | bytes
    if kind == "svg":
        content = _svg(figure, dpi, {**said, "Date": None})
    else:
        stream = io.BytesIO()
        metadata: dict[str, Any] = {**said, "CreationDate": None} if kind == "pdf" else said
        figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata)
        content = stream.getvalue()
    with write_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def check_format(name: str) -> None:
    """Raise `InvalidParameterError` unless figures can be written so."""
    if name not in FORMATS:
        raise InvalidParameterError(
            "figures are not written as this",
            got=repr(name),
            accepted=", ".join(FORMATS) + "." + did_you_mean(name, FORMATS),
        )


def _svg(figure: Figure, dpi: int, metadata: dict[str, Any]) -> str:
    """Return a figure as SVG.

    ``savefig`` decides on text and on the names inside the file by matplotlib's settings, which
    belong to the user and to other threads; so the renderer is ours, and only for this figure.
    """
    from matplotlib.backends.backend_svg import RendererSVG

    class TextRenderer(RendererSVG):
        def draw_text(
            self,
            gc: Any,
            x: float,
            y: float,
            s: str,
            prop: Any,
            angle: float,
            ismath: Any = False,
            mtext: Any = None,
        ) -> None:
            self._draw_text_as_text(  # type: ignore[no-untyped-call]
                gc, x, y, s, prop, angle, ismath, mtext
            )

        def _make_id(self, type: str, content: Any) -> str:
            return f"{type}{hashlib.sha256(str(content).encode()).hexdigest()[:10]}"

    stream = io.StringIO()
    before = figure.dpi
    try:
        figure.dpi = 72  # SVG's unit is the point
        width, height = figure.get_size_inches() * 72
        renderer: Any = TextRenderer(  # type: ignore[no-untyped-call]
            width, height, stream, image_dpi=dpi, metadata=metadata
        )
        figure.draw(renderer)
        renderer.finalize()
    finally:
        figure.dpi = before
    return stream.getvalue()
