"""Figures: maps on the inflated cortex, alone or beside the photographs that evoke them.

No global state is touched: no pyplot, no backend, no settings. A figure is returned, and
``figure.savefig(path)`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

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
from berg.surface.raster import VIEWS, View, best_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Indices = npt.NDArray[np.integer[Any]]

RESPONSE_UNITS = "z"
RESPONSE_LABEL = f"in silico response ({RESPONSE_UNITS})"
SIMULATED_NOTE = "simulated subject, not measured in a brain"
_HEMIS: tuple[Hemi, Hemi] = ("lh", "rh")
_BESIDE_PHOTOGRAPHS: tuple[View, ...] = ("lateral", "ventral")
_LONGEST_TITLE = 56  # characters that fit above two brains
_DPI = 200
_INK, _WARNING = "#1a1a1a", "#b3400e"


@runtime_checkable
class VertexMap(Protocol):
    """A map of both hemispheres that knows what it shows, as `berg.responses.SurfaceMap` does."""

    @property
    def name(self) -> str:
        """What it shows."""

    @property
    def units(self) -> str:
        """Units of its values."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What made it."""

    def whole(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return one number for every vertex of its mesh, NaN where there is none."""


def plot_surface(
    lh: VertexMap | npt.ArrayLike | None,
    rh: npt.ArrayLike | None = None,
    *,
    title: str | None = None,
    label: str | None = None,
    views: Sequence[View] | None = None,
    limits: tuple[float, float] | None = None,
    threshold: float | None = None,
    cmap: str | None = None,
    rois: Mapping[str, tuple[Indices, Indices]] | None = None,
    simulated: bool = False,
) -> Figure:
    """Draw one map on the inflated surface of both hemispheres.

    Parameters
    ----------
    lh : SurfaceMap, or array_like of float, shape (163842,), (40962,) or (10242,), or None
        Either a map of both hemispheres, as `berg.Responses.mean_over_images` and others give it,
        on any mesh and of any selection of vertices; or one of the left hemisphere on fsaverage,
        fsaverage6 or fsaverage5. NaN vertices stay grey; None draws the bare surface.
    rh : array_like of float, shape as `lh`, or None
        Map of the right hemisphere; left out if `lh` has both. If both are None, there is no
        colour bar.
    title : str, optional
        Heading. By default the name of a `SurfaceMap`; ``""`` for none.
    label : str, optional
        What the colours mean, with units. By default the units of a `SurfaceMap`, and for those
        of responses ``"in silico response (z)"``.
    views : sequence of {"lateral", "medial", "ventral", "dorsal", "posterior"}, optional
        One row of the figure each. By default lateral and ventral; of a map with values on less
        than half of the surface, the two views that show most of it.
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
        Whether to mark the figure as coming from a simulated subject. A `SurfaceMap` that does
        is marked anyway.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide.

    Raises
    ------
    InvalidParameterError
        A map has another shape or no finite value, a `SurfaceMap` has another map beside it, a
        view or colour map is unknown, the limits do not ascend, or a region's indices are no
        vertices.
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
    if isinstance(lh, VertexMap):
        title = _shortened(lh.name) if title is None else title
        label = label or (RESPONSE_LABEL if lh.units == RESPONSE_UNITS else lh.units)
        simulated = simulated or bool(lh.provenance.get("simulated"))
    maps = _full_maps(lh, rh)
    if views is None:
        views = _views_of(maps)
    if not views or any(view not in VIEWS for view in views):
        raise InvalidParameterError(
            "unknown views", got=repr(views), accepted="one or more of " + ", ".join(VIEWS)
        )
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
        _colour_bar(figure, left + width, top + 0.1, scale, label or RESPONSE_LABEL)
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


def _full_maps(lh: VertexMap | npt.ArrayLike | None, rh: npt.ArrayLike | None) -> dict[Hemi, Map]:
    """Return both hemispheres at full resolution."""
    if not isinstance(lh, VertexMap):
        return {"lh": _full_map(lh, "lh"), "rh": _full_map(rh, "rh")}
    if rh is not None:
        raise InvalidParameterError(
            "a map of both hemispheres has another map beside it",
            got=f"{lh!r} and rh",
            accepted="a SurfaceMap alone, or an array for each hemisphere",
            do="plot_surface(surface_map)",
        )
    whole_lh, whole_rh = lh.whole()
    return {"lh": upsample(whole_lh), "rh": upsample(whole_rh)}


def _views_of(maps: Mapping[Hemi, Map]) -> Sequence[View]:
    has_value = {hemi: np.isfinite(values) for hemi, values in maps.items()}
    n_values = sum(int(has.sum()) for has in has_value.values())
    if n_values == 0 or n_values >= n_vertices():  # nothing, or half of both
        return _BESIDE_PHOTOGRAPHS
    return best_views(has_value)


def _shortened(name: str) -> str:
    """Return the end of a name, which tells files apart, if it is too long for a heading."""
    return name if len(name) <= _LONGEST_TITLE else f"…{name[1 - _LONGEST_TITLE :]}"


def _full_map(values: npt.ArrayLike | None, hemi: Hemi) -> Map:
    """Return a map at full resolution, or refuse its shape."""
    if values is None:
        return np.full(n_vertices(), np.nan)
    # Coarser meshes have no more vertices than a small region: only a SurfaceMap tells them apart.
    accepted = [(n_vertices(level),) for level in range(PACKAGED_LEVEL, FULL_LEVEL + 1)]
    try:
        array = np.asarray(values)
        got = f"{array.dtype} {array.shape}"
    except ValueError:  # a ragged list, or lazy responses
        array, got = np.empty(0), repr(values)[:200]
    if array.shape not in accepted or array.dtype.kind not in "fiub":
        raise InvalidParameterError(
            f"the {hemi} map is not one number per vertex",
            got=got,
            accepted="(163842,) for fsaverage, (40962,) for fsaverage6 or (10242,) for fsaverage5",
            do="for a region: plot_surface(surface_map), where surface_map is for example\n"
            "            responses.mean_over_images(); surface_map.whole() are its arrays,\n"
            "            with NaN elsewhere",
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
