"""Where the vertices lie in a picture: the inflated cortex, or the flat one, at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from berg.surface.fsaverage import (
    FULL_LEVEL,
    PACKAGED_LEVEL,
    Hemi,
    faces,
    load_packaged,
    upsample,
)
from berg.surface.full_mesh import FullMesh


@dataclass(frozen=True)
class Geometry:
    """One surface of one hemisphere.

    Attributes
    ----------
    vertices : numpy.ndarray of floating dtype, shape (163842, 3)
        Positions in mm: x to the right, y to the front, z up; of a flat surface, x and y lie
        in the plane, and what is not on it has no meaning.
    normals : numpy.ndarray of floating dtype, shape (163842, 3)
        Which way the surface looks at each vertex, of length about one.
    faces : numpy.ndarray of int32, shape (n_faces, 3)
        Those that are drawn: all of them, or those beside the cuts of a flat surface.
    """

    vertices: npt.NDArray[np.floating[Any]]
    normals: npt.NDArray[np.floating[Any]]
    faces: npt.NDArray[np.int32]


@lru_cache(maxsize=2)  # both hemispheres, while the views of a figure are worked out
def inflated_surface(hemi: Hemi, full: FullMesh | None = None) -> Geometry:
    """Return the inflated surface of one hemisphere.

    Parameters
    ----------
    hemi : {"lh", "rh"}
    full : FullMesh, optional
        Where the full surface is read. By default fsaverage5's, subdivided.
    """
    if full is not None:
        vertices, triangles = full.load(hemi, "infl")
        return Geometry(vertices, vertex_normals(vertices, triangles), triangles)
    coarse = load_packaged(hemi, "infl")
    return Geometry(upsample(coarse[0]), upsample(vertex_normals(*coarse)), faces())


def flat_surface(hemi: Hemi, full: FullMesh | None = None) -> Geometry:
    """Return the flat surface: cut off the medial wall, cut open, and spread out.

    It is seen from outside, with the front of the brain to the left in the left hemisphere and
    to the right in the right one, and up is up.

    Parameters
    ----------
    hemi : {"lh", "rh"}
    full : FullMesh, optional
        Where the full map is read, if it has one. By default fsaverage5's, subdivided.
    """
    if full is not None and full.has_flat:
        vertices, triangles = full.load(hemi, "flat")
    else:
        coarse, drawn = load_packaged(hemi, "flat")
        vertices, triangles = upsample(coarse), subdivided(drawn)
    return Geometry(vertices, np.broadcast_to([0.0, 0.0, 1.0], vertices.shape), triangles)


def subdivided(drawn: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the full-resolution faces into which some faces of fsaverage5 are divided.

    Parameters
    ----------
    drawn : numpy.ndarray of int32, shape (n_faces, 3)
        Some of ``faces(5)``.

    Returns
    -------
    numpy.ndarray of int32, shape (16 * n_faces, 3)
    """
    wanted = set(map(tuple, drawn.tolist()))
    kept = np.array([tuple(face) in wanted for face in faces(PACKAGED_LEVEL).tolist()])
    for _ in range(PACKAGED_LEVEL, FULL_LEVEL):
        # All first children come first, then the three others of each face (`fsaverage`).
        kept = np.concatenate([kept, np.repeat(kept, 3)])
    return np.asarray(faces()[kept])


def vertex_normals(
    vertices: npt.NDArray[np.floating[Any]], triangles: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    """Return outward unit normals (n, 3), the mean of the faces around, weighted by area."""
    a, b, c = (vertices[triangles[:, i]].astype(np.float64) for i in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros((len(vertices), 3))
    for corner in triangles.T:
        for axis in range(3):
            normals[:, axis] += np.bincount(corner, across[:, axis], len(vertices))
    lengths: npt.NDArray[np.float64] = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / lengths
