"""One panel of a figure: a view of one hemisphere, the regions on it, and its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from berg.surface.fsaverage import Hemi
from berg.surface.full_mesh import FullMesh
from berg.surface.labels import Place, place_labels
from berg.surface.outlines import LABEL_GRID, Outline
from berg.surface.painting import ColourScale, Map, paint
from berg.surface.raster import SurfaceView, View, surface_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

_PANEL_MM = (222.0, 152.0)  # holds the inflated surface from the side, 216 by 147 mm
_FROM_BELOW_MM = 90.0  # height of a panel seen from above or below, where the surface has 83 mm
_FLAT_MM = (324.0, 286.0)  # holds the flat surface, 321 by 282 mm
_FINER = 2  # surfaces are painted at twice the figure's resolution, which smooths their edges
_SEEN_WELL = 0.4  # of a region's area: what a panel must show of it, if no other shows more
_FONT_SIZES = (6.0, 5.0, 4.0)  # of names, the next if not all find room
_INK, _FAINT = "#1a1a1a", "#707070"
_NAMES = {"lh": "left", "rh": "right"}


@dataclass(frozen=True)
class Panel:
    """A view that is drawn, and the regions that it shows by name."""

    axes: Axes
    hemi: Hemi
    seen: SurfaceView
    outlines: Mapping[str, Outline] = field(default_factory=dict)


def height_over_width(view: View) -> float:
    """Return the proportions of a panel; from above or below the brain is flatter."""
    width, height = _size_mm(view)
    return height / width


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add bare axes; all in inches from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    box = (left / across, 1.0 - (top + height) / down, width / across, height / down)
    axes = figure.add_axes(box)
    axes.set_axis_off()
    return axes


def draw_cortex(
    axes: Axes,
    hemi: Hemi,
    view: View,
    values: Map,
    scale: ColourScale,
    full: FullMesh | None = None,
) -> SurfaceView:
    """Fill axes with one view of one hemisphere; all inflated views have the same size in mm."""
    width, height = axes.get_window_extent().size
    mm = round(_size_mm(view)[0] / width / _FINER, 3)
    seen = surface_view(hemi, view, mm, full)
    rows, columns = seen.shape
    axes.imshow(paint(seen, hemi, values, scale, full), interpolation="hanning")
    reach = width * _FINER / 2, height * _FINER / 2
    axes.set_xlim(columns / 2 - reach[0], columns / 2 + reach[0])
    axes.set_ylim(rows / 2 + reach[1], rows / 2 - reach[1])
    return seen


def draw_regions(panels: Sequence[Panel]) -> None:
    """Draw the borders and names of regions in all panels of a figure.

    A region at the rim of a panel is left out there, if another panel of the same hemisphere
    shows more of it. Names overlap neither each other nor the rim of the brain, and have one size;
    one that finds no room in its region has a line to it.

    Parameters
    ----------
    panels : sequence of Panel
        As `draw_cortex` filled them.
    """
    from matplotlib.collections import LineCollection

    shown = _seen_well(panels)
    for panel, outlines in zip(panels, shown, strict=True):
        lines = [line for outline in outlines.values() for line in outline.lines]
        borders = LineCollection(lines, colors=_INK, linewidths=0.9, path_effects=_halo(2.2))
        panel.axes.add_collection(borders, autolim=False)
    for font_size in _FONT_SIZES:
        placed = [_places(*each, font_size) for each in zip(panels, shown, strict=True)]
        if list(map(len, placed)) == list(map(len, shown)):
            break
    for panel, places in zip(panels, placed, strict=True):
        for name, place in places.items():
            _write_name(panel.axes, name, place, font_size)


def name_panel(axes: Axes, hemi: Hemi, view: View, name: str | None = None) -> None:
    """Write what a panel shows above it, with A(nterior) and P(osterior) where they are."""
    text = f"{_NAMES[hemi]}, {name or view}"
    if view != "posterior":
        front_left = (hemi == "lh") != (view == "medial")
        text = f"A  ←  {text}  →  P" if front_left else f"P  ←  {text}  →  A"
    axes.text(0.5, 1.02, text, transform=axes.transAxes, fontsize=8, color=_FAINT, ha="center")


def _size_mm(view: View) -> tuple[float, float]:
    if view == "flat":
        return _FLAT_MM
    return _PANEL_MM[0], _FROM_BELOW_MM if view in ("ventral", "dorsal") else _PANEL_MM[1]


def _seen_well(panels: Sequence[Panel]) -> list[dict[str, Outline]]:
    """Return the regions of each panel that it shows well, or better than all other panels."""
    best: dict[tuple[Hemi, str], float] = {}
    for panel in panels:
        for name, outline in panel.outlines.items():
            best[panel.hemi, name] = max(outline.seen, best.get((panel.hemi, name), 0.0))
    return [
        {
            name: outline
            for name, outline in panel.outlines.items()
            if outline.seen >= min(_SEEN_WELL, best[panel.hemi, name])
        }
        for panel in panels
    ]


def _places(panel: Panel, outlines: Mapping[str, Outline], font_size: float) -> dict[str, Place]:
    """Choose where the names of one panel stand, in pixels of the view."""
    # Pixels of the figure, of which each holds some of the view, to those of the grid.
    to_grid = _FINER / LABEL_GRID
    sizes = {}
    for name in outlines:
        text = panel.axes.text(0, 0, name, fontsize=font_size, parse_math=False)
        extent = text.get_window_extent()
        sizes[name] = (extent.width * to_grid + 3, extent.height * to_grid + 0.5)
        text.remove()
    brain = np.zeros(panel.seen.shape, dtype=bool)
    brain.flat[panel.seen.pixels] = True
    room = brain[::LABEL_GRID, ::LABEL_GRID]
    inside = {name: outline.inside for name, outline in outlines.items()}
    return place_labels(inside, sizes, room)


def _write_name(axes: Axes, name: str, place: Place, font_size: float) -> None:
    from matplotlib.patheffects import Stroke

    column, row = (LABEL_GRID * at for at in place.middle)
    written: dict[str, Any] = {"fontsize": font_size, "ha": "center", "va": "center", "zorder": 5}
    written["parse_math"] = False  # a name with dollars in it is no formula
    # The halo is a drawing of its own, for what has one is drawn as lines: names stay text in SVG.
    halo = axes.text(column, row, name, **written)
    halo.set_path_effects([Stroke(linewidth=2.0, foreground="white", alpha=0.8)])
    axes.text(column, row, name, color=_INK, **written)
    if place.line is not None:
        ends = LABEL_GRID * np.array(place.line)
        (line,) = axes.plot(ends[:, 0], ends[:, 1], color=_INK, linewidth=0.6, zorder=4)
        line.set_path_effects(_halo(1.6))


def _halo(width: float) -> list[AbstractPathEffect]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white", alpha=0.8)]
