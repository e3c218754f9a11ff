"""One panel of a figure: a view of one hemisphere, the regions on it, and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from berg.surface.fsaverage import Hemi, n_vertices, neighbours
from berg.surface.painting import ColourScale, Map, paint
from berg.surface.raster import SurfaceView, View, surface_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_MM = (222.0, 152.0)  # holds the inflated surface from the side, 216 by 147 mm
_FLAT_MM = 90.0  # height of a panel seen from above or below, where the surface has 83 mm
_FINER = 2  # surfaces are painted at twice the figure's resolution, which smooths their edges
_SMOOTHINGS = 8  # steps of averaging over neighbours (0.8 mm each) before a region is outlined
_SLIVER = 0.001  # regions that cover less of a view than this are not outlined there
_INK, _FAINT = "#1a1a1a", "#707070"
_NAMES = {"lh": "left", "rh": "right"}


def height_over_width(view: View) -> float:
    """Return the proportions of a panel; from above or below the brain is flatter."""
    return (_FLAT_MM if view in ("ventral", "dorsal") else _PANEL_MM[1]) / _PANEL_MM[0]


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add bare axes; all in inches from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    box = (left / across, 1.0 - (top + height) / down, width / across, height / down)
    axes = figure.add_axes(box)
    axes.set_axis_off()
    return axes


def draw_cortex(axes: Axes, hemi: Hemi, view: View, values: Map, scale: ColourScale) -> SurfaceView:
    """Fill axes with one view of one hemisphere, at the same size in mm for every view."""
    width, height = axes.get_window_extent().size
    mm = round(_PANEL_MM[0] / width / _FINER, 3)
    seen = surface_view(hemi, view, mm)
    rows, columns = seen.shape
    axes.imshow(paint(seen, hemi, values, scale), interpolation="hanning")
    reach = width * _FINER / 2, height * _FINER / 2
    axes.set_xlim(columns / 2 - reach[0], columns / 2 + reach[0])
    axes.set_ylim(rows / 2 + reach[1], rows / 2 - reach[1])
    return seen


def outline(axes: Axes, seen: SurfaceView, name: str, region: Map) -> None:
    """Draw the border of a region, and its name inside, where the view shows it."""
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    picture = np.zeros(seen.shape)
    picture.flat[seen.pixels] = seen.sample(region)
    inside = np.argwhere(picture > 0.5)
    if len(inside) < _SLIVER * len(seen.pixels):
        return
    halo: list[AbstractPathEffect] = [withStroke(linewidth=2.2, foreground="white", alpha=0.8)]
    # Only the part that holds the region: contouring takes as long as its picture is large.
    (first_row, first), (last_row, last) = inside.min(axis=0) - 1, inside.max(axis=0) + 2
    rows = np.arange(max(first_row, 0), min(last_row, seen.shape[0]))
    columns = np.arange(max(first, 0), min(last, seen.shape[1]))
    part = picture[np.ix_(rows, columns)]
    border = axes.contour(columns, rows, part, levels=[0.5], colors=_INK, linewidths=0.9)
    border.set_path_effects(halo)
    y, x = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
    text = axes.text(x, y, name, ha="center", va="center", fontsize=6, color=_INK)
    text.set_path_effects(halo)


def smoothed_region(patch: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Return 1 inside a region and 0 outside, with the border's single vertices evened out."""
    mesh = neighbours()
    mask = np.zeros(n_vertices())
    mask[patch] = 1.0
    for _ in range(_SMOOTHINGS):
        around = np.add.reduceat(mask[mesh.indices], mesh.indptr[:-1])
        mask = (mask + around) / (1 + np.diff(mesh.indptr))
    return mask


def name_panel(axes: Axes, hemi: Hemi, view: View, name: str | None = None) -> None:
    """Write what a panel shows above it, with A(nterior) and P(osterior) where they are."""
    text = f"{_NAMES[hemi]}, {name or view}"
    if view != "posterior":
        front_left = (hemi == "lh") != (view == "medial")
        text = f"A  ←  {text}  →  P" if front_left else f"P  ←  {text}  →  A"
    axes.text(0.5, 1.02, text, transform=axes.transAxes, fontsize=8, color=_FAINT, ha="center")
