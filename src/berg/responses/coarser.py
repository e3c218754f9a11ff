"""The readout of a coarser mesh: fewer vertices, by slicing or by averaging what lies between.

Responses are linear in the readout, so the readout of a mean of vertices is the mean of their
readouts: coefficients and intercepts are averaged once, and responses never.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError, did_you_mean
from berg.responses.meshes import FULL_MESH, mesh_level, mesh_size
from berg.responses.readout import HEMISPHERES, Hemisphere, Readout
from berg.surface.fsaverage import edges, n_vertices

How = Literal["slice", "mean"]
_HOWS: tuple[How, ...] = ("slice", "mean")

# A vertex of a subdivided icosahedron ends six edges, and five where the icosahedron had corners.
_MOST_EDGES = 6
# Coarse vertices that are averaged together: their sums are 8 MB for 250 components, and stay in
# the processor's cache while six edges each are added to them.
_VERTEX_BLOCK = 4096

# Coefficients (n, k), intercepts (n,) and vertices (n,) of one hemisphere
_Rows = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]], NDArray[np.int64]]


def coarser_readout(
    readout: Readout, mesh: str, how: How = "slice", *, from_mesh: str = FULL_MESH
) -> Readout:
    """Return the readout of the vertices that a coarser mesh has.

    The vertices of a coarse mesh are the first ones of every finer mesh, and those of the next
    finer one lie on them or in the middle of their edges. The coarse vertices that are kept are
    those that the readout has itself.

    Parameters
    ----------
    readout : Readout
        Of any vertices of `from_mesh`.
    mesh : str
        The coarser mesh: ``"fsaverage5"``, ``"fsaverage6"``, or a still coarser one.
    how : {"slice", "mean"}
        ``"slice"`` takes the kept vertices as they are. ``"mean"`` averages, one level after the
        other, each vertex (weight 1) with the midpoints of its edges (weight 1/2 each, as each
        lies between two) that the readout has.
    from_mesh : str, default "fsaverage"
        The mesh of the readout.

    Returns
    -------
    Readout
        Kept vertices in the readout's order. Means are taken in float64.

    Raises
    ------
    InvalidParameterError
        If a mesh or `how` is unknown, or `mesh` is not coarser than `from_mesh`.
    MissingExtraError
        If nilearn, which has the mesh, is not installed; ``"slice"`` does without.
    """
    if how not in _HOWS:
        raise InvalidParameterError(
            f"there is no way {how!r} to a coarser mesh.{did_you_mean(how, _HOWS)}",
            got=f"how={how!r}",
            accepted=", ".join(map(repr, _HOWS)),
        )
    level, from_level = mesh_level(mesh), mesh_level(from_mesh)
    if level >= from_level:
        raise InvalidParameterError(
            f"{mesh} is not coarser than {from_mesh}",
            got=f"responses on {from_mesh}, {mesh_size(from_mesh)} vertices a hemisphere",
            accepted=f"responses on a mesh of more than {mesh_size(mesh)} vertices a hemisphere",
            do="take the responses as they are, or those of a larger model",
        )
    for hemi in HEMISPHERES:
        if readout.vertices(hemi).max(initial=0) >= n_vertices(from_level):
            raise InvalidParameterError(
                f"the responses are not those of {from_mesh}",
                got=f"{hemi} vertex {readout.vertices(hemi).max()}",
                accepted=f"vertices 0 to {n_vertices(from_level) - 1}",
            )
    if how == "slice":
        lh, rh = (
            np.flatnonzero(readout.vertices(hemi) < n_vertices(level)) for hemi in HEMISPHERES
        )
        return readout.take(lh, rh)
    lh_mean, rh_mean = (_mean(readout, hemi, from_level, level) for hemi in HEMISPHERES)
    return Readout(
        lh_coef=lh_mean[0].astype(np.float32),
        lh_intercept=lh_mean[1].astype(np.float32),
        rh_coef=rh_mean[0].astype(np.float32),
        rh_intercept=rh_mean[1].astype(np.float32),
        lh_vertices=lh_mean[2],
        rh_vertices=rh_mean[2],
    )


def _mean(readout: Readout, hemi: Hemisphere, start: int, level: int) -> _Rows:
    """Average a hemisphere's readout from one level to the next coarser, until one is reached."""
    rows: _Rows = (readout.coef(hemi), readout.intercept(hemi), readout.vertices(hemi))
    for step in range(start - 1, level - 1, -1):
        rows = _mean_one_level(rows, step)
    return rows


def _mean_one_level(fine: _Rows, level: int) -> _Rows:
    """Average each vertex of a level with the midpoints of its edges, as far as they are there."""
    coef, intercept, vertices = fine
    row_of = np.full(n_vertices(level + 1) + 1, -1, dtype=np.int64)  # the last for no vertex, -1
    row_of[vertices] = np.arange(len(vertices))
    kept = np.flatnonzero(vertices < n_vertices(level))
    children = row_of[_midpoints(level)[vertices[kept]]]  # (n_kept, 6), -1 where there is none
    weights = 1 + 0.5 * np.count_nonzero(children >= 0, axis=1)

    coarse_coef = np.empty((len(kept), coef.shape[1]), dtype=np.float64)
    coarse_intercept = np.empty(len(kept), dtype=np.float64)
    for first in range(0, len(kept), _VERTEX_BLOCK):
        block = slice(first, first + _VERTEX_BLOCK)
        for values, out in ((coef, coarse_coef[block]), (intercept, coarse_intercept[block])):
            # Axes: vertices first, components (if any) last
            out[...] = values[kept[block]]
            for child in children[block].T:
                there = child >= 0
                out[there] += 0.5 * values[child[there]].astype(np.float64)
            out /= weights[block].reshape(-1, *[1] * (values.ndim - 1))
    return coarse_coef, coarse_intercept, vertices[kept]


def _midpoints(level: int) -> NDArray[np.int64]:
    """Return the vertices of the next finer level that halve the edges of each vertex.

    Returns
    -------
    numpy.ndarray of int64, shape (n_vertices, 6)
        The last is -1 for the twelve vertices that end five edges only.
    """
    ends = edges(level)
    count = n_vertices(level)
    order = np.argsort(ends.ravel(), kind="stable")  # the ends by vertex
    of = ends.ravel()[order]
    first = np.searchsorted(of, np.arange(count))
    midpoints = np.full((count, _MOST_EDGES), -1, dtype=np.int64)
    midpoints[of, np.arange(len(of)) - first[of]] = count + order // 2
    return midpoints
