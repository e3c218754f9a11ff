"""The fsaverage mesh: FreeSurfer's sphere at every resolution, computed and never downloaded.

fsaverage is an icosahedron subdivided seven times. Its vertices are nested: those of level k are
the first ``10 * 4**k + 2`` vertices of every finer level, so a coarse map is a slice of a fine one.
nilearn's package carries level 5 (fsaverage5, 10,242 vertices a hemisphere); finer levels follow
by subdividing its faces, coarser ones by undoing the same rule. Both hemispheres share the faces.

Examples
--------
>>> from berg.surface.fsaverage import n_vertices, sphere
>>> n_vertices(7)
163842
>>> sphere("lh", level=3).vertices.shape
(642, 3)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError, MissingExtraError, ResourceError
from berg.surface.patches import Neighbours

Hemi = Literal["lh", "rh"]
Surface = Literal["infl", "pial", "sphere", "flat", "sulc"]

FULL_LEVEL = 7  # fsaverage itself: 163,842 vertices and 327,680 faces a hemisphere
PACKAGED_LEVEL = 5  # fsaverage5, the level that nilearn's package carries
RADIUS_MM = 100.0  # FreeSurfer's spheres have this radius
_SIDES = {"lh": "left", "rh": "right"}


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh of one hemisphere.

    Attributes
    ----------
    vertices : numpy.ndarray of float32, shape (n_vertices, 3)
        Positions in mm: x to the right, y to the front, z up.
    faces : numpy.ndarray of int32, shape (n_faces, 3)
        Vertex indices, counter-clockwise seen from outside.
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]


def n_vertices(level: int = FULL_LEVEL) -> int:
    """Return how many vertices a hemisphere has at a level, 0 (icosahedron) to 7 (fsaverage).

    Raises
    ------
    InvalidParameterError
        The level is not 0 to 7.
    """
    if level not in range(FULL_LEVEL + 1):
        raise InvalidParameterError(
            "fsaverage has no such level", got=repr(level), accepted=f"0 to {FULL_LEVEL}"
        )
    return int(10 * 4**level + 2)


def level_of(n: int) -> int:
    """Return the level that has this many vertices a hemisphere.

    Raises
    ------
    InvalidParameterError
        No level has this many.
    """
    by_count = {n_vertices(level): level for level in range(FULL_LEVEL + 1)}
    if n not in by_count:
        raise InvalidParameterError(
            "no fsaverage level has this many vertices",
            got=str(n),
            accepted=", ".join(map(str, by_count)),
        )
    return by_count[n]


@lru_cache(maxsize=16)
def load_packaged(hemi: Hemi, surface: Surface) -> tuple[npt.NDArray[Any], ...]:
    """Read one of the fsaverage5 files that come inside nilearn's package.

    Parameters
    ----------
    hemi : {"lh", "rh"}
        Hemisphere.
    surface : {"infl", "pial", "sphere", "flat", "sulc"}
        Inflated, pial, spherical or flat surface, or the sulcal depth map.

    Returns
    -------
    tuple of numpy.ndarray
        Vertices, float32 (10242, 3) in mm, and faces, int32 (20480, 3), of the flat surface
        fewer: those across a cut are left out; for ``sulc`` only the depth, float32 (10242,),
        positive in sulci. Read-only.

    Raises
    ------
    MissingExtraError
        nilearn is not installed.
    ResourceError
        nilearn's package has no such file.
    """
    _check_hemi(hemi)
    spec = find_spec("nilearn")  # finds the folder; importing nilearn would take seconds
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "the fsaverage mesh is read from nilearn's package",
            got="no nilearn",
            do='pip install "berg[simulate]" or "berg[plot]"',
        )
    import nibabel

    folder = Path(spec.submodule_search_locations[0], "datasets", "data", "fsaverage5")
    path = folder / f"{surface}_{_SIDES[hemi]}.gii.gz"
    try:
        image: Any = nibabel.load(path)
    except FileNotFoundError as err:
        raise ResourceError(
            "nilearn's package lacks a file of fsaverage5",
            got=str(path),
            accepted="nilearn 0.12 or later",
            do="pip install --upgrade nilearn",
        ) from err
    return tuple(_frozen(array.data) for array in image.darrays)


@lru_cache(maxsize=FULL_LEVEL + 1)
def faces(level: int = FULL_LEVEL) -> npt.NDArray[np.int32]:
    """Return the faces at a level; they are the same for both hemispheres.

    Returns
    -------
    numpy.ndarray of int32, shape (20 * 4**level, 3)
        Read-only.
    """
    n_vertices(level)  # refuses what is no level
    if level == PACKAGED_LEVEL:
        return np.asarray(load_packaged("lh", "sphere")[1], dtype=np.int32)
    if level > PACKAGED_LEVEL:
        return _subdivide(faces(level - 1))[0]
    # Undo one subdivision: see _subdivide for where each old corner stands in the finer faces.
    finer = faces(level + 1)
    n = len(finer) // 4
    return _frozen(np.stack([finer[:n, 0], finer[n + 2 :: 3, 1], finer[n::3, 2]], axis=1))


@lru_cache(maxsize=4)
def sphere(hemi: Hemi, level: int = FULL_LEVEL) -> Mesh:
    """Return the spherical surface of one hemisphere.

    Parameters
    ----------
    hemi : {"lh", "rh"}
        Hemisphere.
    level : int
        0 (icosahedron, 12 vertices) to 7 (fsaverage, 163,842 vertices).

    Returns
    -------
    Mesh
        Radius 100 mm; read-only. At level 7 the faces are FreeSurfer's own, and the positions
        within 0.0101 mm of its ``?h.sphere`` (measured on both hemispheres).
    """
    count = n_vertices(level)
    vertices = load_packaged(hemi, "sphere")[0][:count]
    for finer in range(PACKAGED_LEVEL + 1, level + 1):
        ends = edges(finer - 1)
        middles = vertices[ends[:, 0]].astype(np.float64) + vertices[ends[:, 1]]
        middles *= RADIUS_MM / np.linalg.norm(middles, axis=1, keepdims=True)
        vertices = np.concatenate([vertices, middles.astype(np.float32)])
    return Mesh(vertices=_frozen(vertices), faces=faces(level))


@lru_cache(maxsize=FULL_LEVEL + 1)
def edges(level: int = FULL_LEVEL) -> npt.NDArray[np.int32]:
    """Return the two ends of every edge, in the order in which the next level's vertices follow.

    Returns
    -------
    numpy.ndarray of int32, shape (30 * 4**level, 2)
        Row i holds the vertices between which vertex ``n_vertices(level) + i`` of level + 1 lies.
    """
    return _subdivide(faces(level))[1]


def upsample(values: npt.NDArray[Any], level: int = FULL_LEVEL) -> npt.NDArray[np.floating[Any]]:
    """Interpolate per-vertex values to a finer level.

    Old vertices keep their values; each new one takes the mean of the two ends of its edge.
    Noise drawn at a coarse level thus becomes a smooth field at a fine one.

    Parameters
    ----------
    values : numpy.ndarray, shape (n_vertices,) or (n_vertices, k)
        Values at any level that is not finer than the wanted one. Integers become float64.
    level : int
        The level to reach.

    Returns
    -------
    numpy.ndarray of floating dtype, shape (n_vertices(level),) or (n_vertices(level), k)
        A new array.

    Raises
    ------
    InvalidParameterError
        The number of values is no level's, or that of a finer level than the wanted one.
    """
    start = level_of(len(values))
    if start > level:
        raise InvalidParameterError(
            "values can be up-sampled only to a finer level",
            got=f"values at level {start}, to level {level}",
            do="a coarser map is a slice: values[: n_vertices(level)]",
        )
    dtype = values.dtype if np.issubdtype(values.dtype, np.floating) else np.dtype(np.float64)
    finer = np.empty((n_vertices(level), *values.shape[1:]), dtype=dtype)
    finer[: len(values)] = values
    for step in range(start, level):
        ends, count = edges(step), n_vertices(step)
        new = finer[count : count + len(ends)]
        np.add(finer[ends[:, 0]], finer[ends[:, 1]], out=new)
        new *= 0.5
    return finer


@lru_cache(maxsize=2)
def neighbours(level: int = FULL_LEVEL) -> Neighbours:
    """Return which vertices share an edge at a level."""
    ends = edges(level)
    both = np.concatenate([ends, ends[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    counts = np.bincount(both[:, 0], minlength=n_vertices(level))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Neighbours(indptr=_frozen(indptr), indices=_frozen(both[:, 1].copy()))


def _subdivide(
    coarse: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Split every face in four, in FreeSurfer's order; return the finer faces and the edges.

    New vertices are numbered as edges are first met, going through the faces and through the
    edges (c, a), (b, c), (a, b) of each. All first children (a, ab, ca) come first, then face by
    face the three others: (ca, bc, c), (ab, bc, ca), (ab, b, bc). So a corner a stands at 0 of the
    first child, c at 2 of the second, b at 1 of the fourth, which `faces` reads to go back.
    """
    met = coarse[:, [[2, 0], [1, 2], [0, 1]]].reshape(-1, 2)
    low, high = met.min(axis=1).astype(np.int64), met.max(axis=1)
    n = int(coarse.max()) + 1
    _, first, inverse = np.unique(low * n + high, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), dtype=np.int32)
    number[order] = np.arange(n, n + len(order), dtype=np.int32)
    ca, bc, ab = number[inverse].reshape(-1, 3).T
    a, b, c = coarse.T
    others = np.stack([ca, bc, c, ab, bc, ca, ab, b, bc], axis=1).reshape(-1, 3)
    finer = np.concatenate([np.stack([a, ab, ca], axis=1), others])
    return _frozen(finer), _frozen(met[first[order]])


def _check_hemi(hemi: str) -> None:
    if hemi not in _SIDES:
        raise InvalidParameterError("unknown hemisphere", got=repr(hemi), accepted="'lh', 'rh'")


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make a cached array read-only, so that no caller can change it for the others."""
    array.flags.writeable = False
    return array
