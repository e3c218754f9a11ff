"""Figures: maps on the inflated cortex, alone or beside the photographs that evoke them.

No global state is touched: no pyplot, no backend, no settings. A figure is returned, and
``figure.savefig(path)`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError, MissingExtraError
from berg.surface.fsaverage import FULL_LEVEL, PACKAGED_LEVEL, Hemi, n_vertices, upsample
from berg.surface.painting import ColourScale, Map, colour_scale
from berg.surface.panel import (
    add_axes,
    draw_cortex,
    height_over_width,
    name_panel,
    outline,
    smoothed_region,
)
from berg.surface.raster import VIEWS, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Indices = npt.NDArray[np.integer[Any]]

RESPONSE_LABEL = "in silico response (z)"
SIMULATED_NOTE = "simulated subject, not measured in a brain"
_HEMIS: tuple[Hemi, Hemi] = ("lh", "rh")
_BESIDE_PHOTOGRAPHS: tuple[View, ...] = ("lateral", "ventral")
_DPI = 200
_INK, _WARNING = "#1a1a1a", "#b3400e"


def plot_surface(
    lh: npt.ArrayLike | None,
    rh: npt.ArrayLike | None,
    *,
    title: str | None = None,
    label: str = RESPONSE_LABEL,
    views: Sequence[View] = ("lateral", "ventral"),
    limits: tuple[float, float] | None = None,
    threshold: float | None = None,
    cmap: str | None = None,
    rois: Mapping[str, tuple[Indices, Indices]] | None = None,
    simulated: bool = False,
) -> Figure:
    """Draw one map on the inflated surface of both hemispheres.

    Parameters
    ----------
    lh, rh : array_like of float, shape (163842,) or (10242,), or None
        Map of each hemisphere on fsaverage or fsaverage5. NaN vertices stay grey; None draws
        the bare surface, and None twice leaves the colour bar out.
    title : str, optional
        Heading.
    label : str
        What the colours mean, with units.
    views : sequence of {"lateral", "medial", "ventral", "dorsal", "posterior"}
        One row of the figure each.
    limits : tuple of two float, optional
        Values at the ends of the colour bar. By default from zero, or symmetric about it if any
        value is negative, to the 99.5th percentile of the absolute values.
    threshold : float, optional
        Leave out values nearer to zero than this. By default a map with both signs fades into
        the grey surface towards zero.
    cmap : str, optional
        Name of a matplotlib colour map; by default ``RdBu_r`` around zero, else ``viridis``.
    rois : mapping of str to pair of int arrays, optional
        Vertex indices on fsaverage (left, right) of regions to outline, by name.
    simulated : bool
        Whether to mark the figure as coming from a simulated subject.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide.

    Raises
    ------
    InvalidParameterError
        A map has another shape or no finite value, a view or colour map is unknown, the limits
        do not ascend, or a region's indices are no vertices.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from berg.plotting import plot_surface
    >>> height = np.linspace(-1, 1, 10242)
    >>> figure = plot_surface(height, height, title="A map", label="height (mm)")
    >>> figure.savefig("map.png")  # doctest: +SKIP
    """
    _check_rois(rois or {})
    if not views or any(view not in VIEWS for view in views):
        raise InvalidParameterError(
            "unknown views", got=repr(views), accepted="one or more of " + ", ".join(VIEWS)
        )
    maps = {"lh": _full_map(lh, "lh"), "rh": _full_map(rh, "rh")}
    borders = [
        {name: smoothed_region(patches[side]) for name, patches in (rois or {}).items()}
        for side in range(2)
    ]
    width, left, top, name_height = 3.35, 0.15, _head_height(title, simulated), 0.2
    heights = [width * height_over_width(view) for view in views]
    figure = _new_figure(2 * (left + width), top + sum(heights) + name_height * len(views) + 0.65)
    if lh is None and rh is None:
        limits = limits or (0.0, 1.0)  # nothing will show them
    scale = colour_scale(list(maps.values()), limits=limits, cmap=cmap, threshold=threshold)
    for view, height in zip(views, heights, strict=True):
        top += name_height
        for side, hemi in enumerate(_HEMIS):
            axes = add_axes(figure, left + side * width, top, width, height)
            seen = draw_cortex(axes, hemi, view, maps[hemi], scale)
            for name, border in borders[side].items():
                outline(axes, seen, name, border)
            name_panel(axes, hemi, view)
        top += height
    if lh is not None or rh is not None:
        _colour_bar(figure, left + width, top + 0.1, scale, label)
    _head(figure, title, simulated)
    return figure


def plot_photograph_responses(
    photographs: npt.NDArray[np.uint8],
    lh: npt.NDArray[np.floating[Any]],
    rh: npt.NDArray[np.floating[Any]],
    *,
    title: str = "In silico fMRI responses to photographs",
    simulated: bool = False,
) -> Figure:
    """Draw photographs and, beside each, the responses of both hemispheres.

    Each photograph has four brains beside it: left and right hemisphere, from the side above and
    from below beneath. All share one colour scale that is symmetric about zero.

    Parameters
    ----------
    photographs : numpy.ndarray of uint8, shape (n_images, 3, height, width)
        RGB images.
    lh, rh : numpy.ndarray of floating dtype, shape (n_images, 163842) or (n_images, 10242)
        Responses in z-scored units; NaN vertices stay grey.
    title : str
        Heading.
    simulated : bool
        Whether to mark the figure as coming from a simulated subject.

    Returns
    -------
    matplotlib.figure.Figure
        12 inches wide: two photographs a row.

    Raises
    ------
    InvalidParameterError
        The arrays have other shapes, or no finite value.
    MissingExtraError
        matplotlib is not installed.
    """
    if photographs.ndim != 4 or photographs.shape[1] != 3 or photographs.dtype != np.uint8:
        raise InvalidParameterError(
            "the photographs are not a batch of RGB images",
            got=f"{photographs.dtype} {photographs.shape}",
            accepted="uint8 (n_images, 3, height, width)",
        )
    if not 0 < len(photographs) == len(lh) == len(rh):
        raise InvalidParameterError(
            "each photograph needs its responses",
            got=f"{len(photographs)} photographs, {len(lh)} and {len(rh)} rows of responses",
            accepted="the same number of each, at least one",
        )
    maps = {
        "lh": [_full_map(row, "lh") for row in lh],
        "rh": [_full_map(row, "rh") for row in rh],
    }
    n_columns = min(2, len(photographs))
    n_rows = -(-len(photographs) // n_columns)
    photo, width, head, gap = 1.6, 2.05, _head_height(title, simulated) + 0.2, 0.2
    heights = [width * height_over_width(view) for view in _BESIDE_PHOTOGRAPHS]
    step = photo + 2 * width + 2 * gap, sum(heights) + gap
    figure = _new_figure(n_columns * step[0] + gap, head + n_rows * step[1] + 0.6)
    limit = colour_scale(maps["lh"] + maps["rh"]).high
    scale = colour_scale([], limits=(-limit, limit))
    for number, photograph in enumerate(photographs):
        row, column = divmod(number, n_columns)
        left, top = gap + column * step[0], head + row * step[1]
        axes = add_axes(figure, left, top + (sum(heights) - photo) / 2, photo, photo)
        axes.imshow(photograph.transpose(1, 2, 0), interpolation="hanning")
        for view, height in zip(_BESIDE_PHOTOGRAPHS, heights, strict=True):
            for side, hemi in enumerate(_HEMIS):
                axes = add_axes(figure, left + photo + gap / 2 + side * width, top, width, height)
                draw_cortex(axes, hemi, view, maps[hemi][number], scale)
                if number < n_columns and view == _BESIDE_PHOTOGRAPHS[0]:
                    name_panel(axes, hemi, view, " and ".join(_BESIDE_PHOTOGRAPHS))
            top += height
    middle = figure.get_figwidth() / 2
    _colour_bar(figure, middle, head + n_rows * step[1], scale, RESPONSE_LABEL)
    _head(figure, title, simulated)
    return figure


def _full_map(values: npt.ArrayLike | None, hemi: Hemi) -> Map:
    """Return a map at full resolution, or refuse its shape."""
    if values is None:
        return np.full(n_vertices(), np.nan)
    accepted = [(n_vertices(level),) for level in (FULL_LEVEL, PACKAGED_LEVEL)]
    array = np.asarray(values)
    if array.shape not in accepted or array.dtype.kind not in "fiub":
        raise InvalidParameterError(
            f"the {hemi} map is not one number per vertex",
            got=f"{array.dtype} {array.shape}",
            accepted="(163842,) for fsaverage or (10242,) for fsaverage5",
            do="put the responses of an ROI into a map of NaN, at the ROI's vertices",
        )
    return upsample(array)


def _check_rois(rois: Mapping[str, tuple[Indices, Indices]]) -> None:
    for name, patches in rois.items():
        for hemi, patch in zip(_HEMIS, patches, strict=True):
            if len(patch) and not 0 <= np.min(patch) <= np.max(patch) < n_vertices():
                raise InvalidParameterError(
                    f"the {hemi} part of ROI {name!r} holds what is no vertex",
                    got=f"indices {np.min(patch)} to {np.max(patch)}",
                    accepted=f"0 to {n_vertices() - 1}",
                )


def check_matplotlib() -> None:
    """Raise `MissingExtraError` if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(
            "figures need matplotlib", got="no matplotlib", do='pip install "berg[plot]"'
        )


def _new_figure(width: float, height: float) -> Figure:
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _colour_bar(figure: Figure, middle: float, top: float, scale: ColourScale, label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = add_axes(figure, middle - 1.4, top, 2.8, 0.12)
    axes.set_axis_on()
    colours = ScalarMappable(Normalize(scale.low, scale.high), scale.cmap)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", extend=scale.extend)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=8, length=2.5, width=0.5, pad=2)
    bar.set_label(label, fontsize=9, labelpad=2)


def _head_height(title: str | None, simulated: bool) -> float:
    return 0.1 + (0.32 if title else 0.0) + (0.22 if simulated else 0.0)


def _head(figure: Figure, title: str | None, simulated: bool) -> None:
    """Write the heading and, for a simulated subject, a note that cannot be overlooked."""
    height = figure.get_figheight()
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    if title:
        figure.text(0.5, 1 - 0.25 / height, title, fontsize=13, color=_INK, **centred)
    if simulated:
        down = _head_height(title, simulated) - 0.1
        figure.text(
            0.5,
            1 - down / height,
            SIMULATED_NOTE,
            fontsize=9,
            fontweight="bold",
            color=_WARNING,
            **centred,
        )
