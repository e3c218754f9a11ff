"""What all figures have: an empty page, a heading, a colour bar."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from berg.errors import MissingExtraError
from berg.surface.painting import ColourScale
from berg.surface.panel import add_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIMULATED_NOTE = "simulated subject, not measured in a brain"
_SIMULATED_NOTE_OF_SEVERAL = "simulated subjects, not measured in brains"
INK, FAINT, WARNING = "#1a1a1a", "#5a5a5a", "#b3400e"
_DPI = 200


def check_matplotlib() -> None:
    """Raise `MissingExtraError` if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(
            "figures need matplotlib", got="no matplotlib", do='pip install "berg[plot]"'
        )


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure, in inches."""
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


@dataclass(frozen=True)
class Heading:
    """The lines above a figure.

    Parameters
    ----------
    title, subtitle : str or None
        What is shown; a smaller line under it.
    simulated : int or bool
        How many subjects are simulated, which is written so that it cannot be overlooked.
    """

    title: str | None
    simulated: int = 0
    subtitle: str | None = None

    @property
    def height(self) -> float:
        """Inches that it takes."""
        return 0.1 + sum(height for height, *_ in self._lines())

    def write(self, figure: Figure) -> None:
        """Write it at the top of the figure."""
        top = 0.09
        for height, text, style in self._lines():
            figure.text(
                0.5,
                1 - (top + height / 2) / figure.get_figheight(),
                text,
                ha="center",
                va="center",
                parse_math=False,  # a name with dollars in it is no formula
                **style,
            )
            top += height

    def _lines(self) -> list[tuple[float, str, dict[str, Any]]]:
        lines: list[tuple[float, str, dict[str, Any]]] = []
        if self.title:
            lines.append((0.32, self.title, {"fontsize": 13, "color": INK}))
        if self.subtitle:
            lines.append((0.2, self.subtitle, {"fontsize": 8.5, "color": FAINT}))
        if self.simulated:
            bold = {"fontsize": 9, "color": WARNING, "fontweight": "bold"}
            note = SIMULATED_NOTE if self.simulated == 1 else _SIMULATED_NOTE_OF_SEVERAL
            lines.append((0.22, note, bold))
        return lines


def add_colour_bar(
    figure: Figure, middle: float, top: float, scale: ColourScale, label: str
) -> None:
    """Draw a horizontal colour bar; its middle and top in inches from the upper left corner."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = add_axes(figure, middle - 1.4, top, 2.8, 0.12)
    axes.set_axis_on()
    colours = ScalarMappable(Normalize(scale.low, scale.high), scale.cmap)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", extend=scale.extend)
    if bar.solids is not None:  # or viewers of SVG and PDF show seams between the colours
        bar.solids.set_edgecolor("face")
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=8, length=2.5, width=0.5, pad=2)
    bar.set_label(label, fontsize=9, labelpad=2)
