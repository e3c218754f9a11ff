"""Which of the vertices that there are belong to a region of interest."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError, warn
from berg.responses.meshes import FULL_MESH, mesh_size
from berg.responses.readout import HEMISPHERES, Hemisphere, Readout
from berg.selection import Selection


def rows_of_region(
    region: Selection,
    readout: Readout,
    *,
    mesh: str = FULL_MESH,
    left_out: Collection[Hemisphere] = (),
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of a readout that are a region's vertices.

    Parameters
    ----------
    region : Selection
        On fsaverage.
    readout : Readout
    mesh : str
        Of the readout. On a coarser one a region is those of its vertices that the mesh has:
        meshes are nested.
    left_out : collection of {"lh", "rh"}
        Hemispheres in which the region's vertices are not wanted.

    Returns
    -------
    lh, rh : numpy.ndarray of int64, shapes (n_lh,), (n_rh,)
        In the order of the region's vertices.

    Raises
    ------
    InvalidParameterError
        If the readout has not all of the region's vertices.

    Warns
    -----
    BERGWarning
        If a coarser mesh has none of the region's vertices.
    """
    title = " and ".join(region.rois)
    wanted, rows = {}, {}
    for hemi, vertices in zip(HEMISPHERES, (region.lh, region.rh), strict=True):
        kept = vertices[vertices < mesh_size(mesh)]
        if len(vertices) and not len(kept):
            warn(f"ROI {title} has no vertex of {mesh} in {hemi}: choose a finer mesh")
        wanted[hemi] = kept[:0] if hemi in left_out else kept
        rows[hemi] = _find(wanted[hemi], readout.vertices(hemi))
    missing = [hemi for hemi in HEMISPHERES if len(rows[hemi]) < len(wanted[hemi])]
    if missing:
        there = (
            f"{len(rows[hemi])} of its {len(wanted[hemi])} vertices in {hemi}"
            for hemi in HEMISPHERES
            if hemi not in left_out
        )
        whole = [hemi for hemi in HEMISPHERES if hemi not in missing and len(wanted[hemi])]
        raise InvalidParameterError(
            f"these responses do not have all vertices of ROI {title}",
            got=" and ".join(there),
            accepted="a region that lies within the vertices of the responses",
            do=f'for that hemisphere alone: responses.hemisphere("{whole[0]}").roi(...)'
            if whole
            else f"load the model with selection={{'roi': {list(region.rois)}}}, "
            "or without a selection",
        )
    return rows["lh"], rows["rh"]


def _find(wanted: NDArray[np.int64], vertices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of those of the wanted vertices that there are."""
    order = np.argsort(vertices, kind="stable")
    places = np.searchsorted(vertices, wanted, sorter=order)
    rows = order[np.minimum(places, len(order) - 1)] if len(order) else places[:0]
    return rows[vertices[rows] == wanted] if len(order) else rows
