"""Maps on the inflated or flat cortex."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError, warn
from berg.plotting.figures import (
    FAINT,
    Heading,
    add_colour_bar,
    check_matplotlib,
    new_figure,
)
from berg.plotting.maps import HEMIS, RESPONSE_LABEL, RESPONSE_UNITS, VertexMap, full_maps
from berg.surface.fsaverage import Hemi, n_vertices
from berg.surface.full_mesh import FullMesh, choose_mesh
from berg.surface.outlines import Regions
from berg.surface.painting import ColourScale, Map, colour_scale
from berg.surface.panel import (
    Panel,
    add_axes,
    draw_cortex,
    draw_regions,
    height_over_width,
    name_panel,
)
from berg.surface.raster import VIEWS, View, views_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Indices = npt.NDArray[np.integer[Any]]

_LONGEST_TITLE = 56  # characters that fit above two brains
_PANEL, _MARGIN, _NAME = 3.35, 0.15, 0.2  # inches: width of a panel, left of it, its name's height


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
    mesh: str = "fsaverage5",
    mesh_dir: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw one map on the inflated or flat surface of both hemispheres.

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
    views : sequence of {"lateral", "medial", "ventral", "dorsal", "posterior", "flat"}, optional
        One row of the figure each; all of the inflated surface but the flat one. By default
        lateral and ventral; of a map with values on less than half of the surface, the two
        inflated views that show most of it.
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
    mesh : {"fsaverage5", "fsaverage"}
        Which surface to draw on: the one that needs no download, subdivided to as many vertices,
        or fsaverage's own with its finer folds.
    mesh_dir : path-like, optional
        Folder with fsaverage's own surfaces. By default they are looked for as
        `berg.surface.full_mesh.find_full_mesh` says, and downloaded if they are nowhere. Where
        they lack a flat map, the flat view is of fsaverage5's.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide.

    Raises
    ------
    InvalidParameterError
        A map has another shape or no finite value, a `SurfaceMap` has another map beside it, a
        view, mesh or colour map is unknown, the limits do not ascend, or a region's indices are no
        vertices.
    MissingExtraError
        matplotlib is not installed.
    ResourceError
        fsaverage's own surfaces are not here, and cannot be downloaded.

    Examples
    --------
    >>> import numpy as np
    >>> from berg.plotting import plot_surface
    >>> height = np.linspace(-1, 1, 10242)
    >>> figure = plot_surface(height, height, title="A map", label="height (mm)")
    >>> figure.savefig("map.png")  # doctest: +SKIP
    """
    check_matplotlib()
    _check_rois(rois or {})
    check_views(views)
    full = choose_mesh(mesh, mesh_dir)
    if isinstance(lh, VertexMap):
        title = _shortened(lh.name) if title is None else title
        label = label or (RESPONSE_LABEL if lh.units == RESPONSE_UNITS else lh.units)
        simulated = simulated or bool(lh.provenance.get("simulated"))
    maps = full_maps(lh, rh)
    if views is None:
        views = views_of({hemi: np.isfinite(values) for hemi, values in maps.items()})
    warn_of_coarser_flat(views, full)
    regions = Regions(
        {
            hemi: {name: _mask(patches[side]) for name, patches in (rois or {}).items()}
            for side, hemi in enumerate(HEMIS)
        }
    )
    empty = lh is None and rh is None
    if empty:
        limits = limits or (0.0, 1.0)  # nothing will show them
    scale = colour_scale(list(maps.values()), limits=limits, cmap=cmap, threshold=threshold)
    return surface_figure(
        maps,
        views,
        scale,
        None if empty else label or RESPONSE_LABEL,
        Heading(title, simulated),
        regions,
        full,
    )


def surface_figure(
    maps: Mapping[Hemi, Map],
    views: Sequence[View],
    scale: ColourScale,
    label: str | None,
    heading: Heading,
    regions: Regions,
    full: FullMesh | None = None,
    note: str | None = None,
) -> Figure:
    """Draw one view in each row, the left hemisphere at the left, and a colour bar below.

    Parameters
    ----------
    maps : mapping of {"lh", "rh"} to numpy.ndarray of float, shape (163842,)
    views : sequence of View
    scale : ColourScale
    label : str or None
        Of the colour bar; None draws none.
    heading : Heading
    regions : Regions
        To outline and name.
    full : FullMesh, optional
        Where fsaverage's own surfaces are.
    note : str, optional
        A line under the colour bar.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide.
    """
    heights = [_PANEL * height_over_width(view) for view in views]
    rows = sum(heights) + _NAME * len(views)
    below = 0.65 + (0.2 if note else 0.0)
    figure = new_figure(2 * (_MARGIN + _PANEL), heading.height + rows + below)
    top = heading.height
    panels = []
    for view, height in zip(views, heights, strict=True):
        top += _NAME
        for side, hemi in enumerate(HEMIS):
            axes = add_axes(figure, _MARGIN + side * _PANEL, top, _PANEL, height)
            seen = draw_cortex(axes, hemi, view, maps[hemi], scale, full)
            panels.append(Panel(axes, hemi, seen, regions.in_view(hemi, view, seen)))
            name_panel(axes, hemi, view)
        top += height
    draw_regions(panels)
    if label is not None:
        add_colour_bar(figure, _MARGIN + _PANEL, top + 0.1, scale, label)
    if note:
        height = figure.get_figheight()
        figure.text(0.5, 0.13 / height, note, fontsize=7.5, color=FAINT, ha="center", va="center")
    heading.write(figure)
    return figure


def check_views(views: Sequence[View] | None) -> None:
    """Raise `InvalidParameterError` unless there is a view, and each of them is known."""
    if views is not None and (not views or any(view not in VIEWS for view in views)):
        raise InvalidParameterError(
            "unknown views", got=repr(views), accepted="one or more of " + ", ".join(VIEWS)
        )


def warn_of_coarser_flat(views: Sequence[View], full: FullMesh | None) -> None:
    """Warn if the flat view is wanted of full surfaces that have none."""
    if full is not None and "flat" in views and not full.has_flat:
        warn(
            f"{full.folder} has no flat map (flat_left.gii.gz, flat_right.gii.gz); the flat view "
            "is of fsaverage5's, subdivided"
        )


def _shortened(name: str) -> str:
    """Return the end of a name, which tells files apart, if it is too long for a heading."""
    return name if len(name) <= _LONGEST_TITLE else f"…{name[1 - _LONGEST_TITLE :]}"


def _mask(patch: Indices) -> npt.NDArray[np.bool_]:
    mask = np.zeros(n_vertices(), dtype=bool)
    mask[patch] = True
    return mask


def _check_rois(rois: Mapping[str, tuple[Indices, Indices]]) -> None:
    for name, patches in rois.items():
        for hemi, patch in zip(HEMIS, patches, strict=True):
            if len(patch) and not 0 <= np.min(patch) <= np.max(patch) < n_vertices():
                raise InvalidParameterError(
                    f"the {hemi} part of ROI {name!r} holds what is no vertex",
                    got=f"indices {np.min(patch)} to {np.max(patch)}",
                    accepted=f"0 to {n_vertices() - 1}",
                )
