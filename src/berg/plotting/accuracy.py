"""Pictures of a model's accuracy on the cortex."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from berg.metadata import Metadata
from berg.plotting.accuracy_maps import (
    DATASET_TITLES,
    DEFAULT_ROIS,
    MEASURES,
    accuracy_map,
    n_simulated,
    region_masks,
    with_measure,
)
from berg.plotting.figures import Heading, check_matplotlib
from berg.plotting.maps import HEMIS
from berg.plotting.surfaces import check_views, surface_figure, warn_of_coarser_flat
from berg.roi_accuracy import LEAST_CEILING
from berg.surface.fsaverage import Hemi, upsample
from berg.surface.full_mesh import FullMesh, choose_mesh
from berg.surface.outlines import Regions
from berg.surface.painting import ColourScale, Map
from berg.surface.raster import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INFLATED_VIEWS: tuple[View, ...] = ("lateral", "medial", "ventral")


def plot_accuracy(
    metadata: Metadata | Mapping[int, Metadata],
    measure: str = "explained_variance",
    dataset: str = "nsdcore",
    *,
    views: Sequence[View] = INFLATED_VIEWS,
    rois: Sequence[str] = DEFAULT_ROIS,
    model: str | None = None,
    limits: tuple[float, float] | None = None,
    least_ceiling: float = LEAST_CEILING,
    mesh: str = "fsaverage5",
    mesh_dir: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw how well a model predicts each vertex, of one subject or the average of several.

    Parameters
    ----------
    metadata : dict, or mapping of int to dict
        Of one subject as `berg.metadata.load_metadata` returns it, or of several by subject:
        then the average is drawn, as `accuracy_map` takes it, of those who have the measure. On
        any level of fsaverage.
    measure : {"r2", "noise_ceiling", "explained_variance"}
        The last is r² in percent of the noise ceiling.
    dataset : {"nsdcore", "nsdsynthetic"}
        The images that the model was tested on.
    views : sequence of {"lateral", "medial", "ventral", "dorsal", "posterior", "flat"}
        One row of the figure each.
    rois : sequence of str
        Regions to outline, or NSD's collections of them: ``"prf-visualrois"``, ``"streams"`` and
        others. Of several subjects: vertices that are in the region in more than half of them.
    model : str, optional
        Name of the model, for the heading.
    limits : tuple of two float, optional
        Values at the ends of the colour bar. By default those of `MEASURES`, the same for every
        subject.
    least_ceiling : float
        Vertices with a lower noise ceiling are left blank.
    mesh : {"fsaverage5", "fsaverage"}
        As for `plot_surface`.
    mesh_dir : path-like, optional
        As for `plot_surface`.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide.

    Raises
    ------
    InvalidParameterError
        No subject has the measure; a measure, dataset, view, region or mesh is unknown; or the
        subjects' brains have different sizes.
    MissingExtraError
        matplotlib is not installed.
    ResourceError
        fsaverage's own surfaces are not here, and cannot be downloaded.
    """
    check_matplotlib()
    check_views(views)
    full = choose_mesh(mesh, mesh_dir)
    warn_of_coarser_flat(views, full)
    subjects = with_measure(metadata, measure, dataset)
    return accuracy_figure(
        subjects,
        measure,
        dataset,
        views,
        Regions(region_masks(subjects, rois)),
        model=model,
        limits=limits,
        least_ceiling=least_ceiling,
        full=full,
    )


def accuracy_figure(
    metadata: Mapping[int | None, Metadata],
    measure: str,
    dataset: str,
    views: Sequence[View],
    regions: Regions,
    *,
    model: str | None = None,
    limits: tuple[float, float] | None = None,
    least_ceiling: float = LEAST_CEILING,
    full: FullMesh | None = None,
) -> Figure:
    """Draw as `plot_accuracy`, of subjects who all have the measure.

    The regions are given, so that they are worked out once for many figures.
    """
    maps = accuracy_map(metadata, measure, dataset, least_ceiling=least_ceiling)  # type: ignore[arg-type]
    shown = MEASURES[measure]
    low, high = limits or shown.limits
    heading = Heading(
        f"{shown.title}, {DATASET_TITLES[dataset]}",
        n_simulated(metadata),
        " · ".join(
            filter(None, (whose(list(metadata)), model, _median(metadata, maps, shown.unit)))
        ),
    )
    return surface_figure(
        {hemi: upsample(values) for hemi, values in maps.items()},
        views,
        ColourScale(low, high, shown.cmap, bounds=shown.bounds),
        shown.label,
        heading,
        regions,
        full,
        _what_is_blank(len(metadata), least_ceiling),
    )


def whose(subjects: Sequence[int | None]) -> str:
    """Say whose map it is, if that is known."""
    if len(subjects) > 1:
        return f"average of {len(subjects)} subjects ({', '.join(map(str, subjects))})"
    return "" if subjects[0] is None else f"subject {subjects[0]}"


def _median(
    metadata: Mapping[int | None, Metadata], maps: Mapping[Hemi, Map], unit: str
) -> str | None:
    """Say the median of what is shown over nsdgeneral, NSD's mask of visual cortex."""
    names = {
        name
        for hemi in HEMIS
        for each in metadata.values()
        for name in each["fmri"][f"{hemi}_fsaverage_rois"]
    }
    if "nsdgeneral" not in names:
        return None
    masks = region_masks(metadata, ["nsdgeneral"])
    values = np.concatenate(
        [maps[hemi][mask > 0] for hemi in HEMIS for mask in masks[hemi].values()] or [np.empty(0)]
    )
    values = values[np.isfinite(values)]
    if not len(values):
        return "no vertex of nsdgeneral to show"
    middle = np.median(values)
    return (
        f"median over nsdgeneral {middle:.0f}{unit}"
        if unit
        else f"median over nsdgeneral {middle:.2f}"
    )


def _what_is_blank(n_subjects: int, least_ceiling: float) -> str:
    where = " in more than half of the subjects" if n_subjects > 1 else ""
    return f"grey: noise ceiling under {least_ceiling:g}{where}"
