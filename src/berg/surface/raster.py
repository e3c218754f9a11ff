"""Pixels of the inflated or flat cortex: which vertices each pixel of a view shows.

A view is worked out once; after that, drawing a map of responses is one interpolation. That is
what makes a figure of dozens of brains take seconds, where 3-D plotting takes half a minute.
The surface is fsaverage5's with its faces subdivided to full resolution, or fsaverage's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError
from berg.surface.fsaverage import Hemi, n_vertices
from berg.surface.full_mesh import FullMesh
from berg.surface.geometry import flat_surface, inflated_surface

View = Literal["lateral", "medial", "ventral", "dorsal", "posterior", "flat"]

# Where the camera stands (x right, y front, z up) and which way the picture's right points, for
# the left hemisphere; the right one mirrors x for the camera and the picture's horizontal. So the
# front of the brain is to the left in every left hemisphere but the medial view, where it is to
# the right, and the ventral view is the lateral one rolled back.
_CAMERAS: dict[View, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "lateral": ((-1, 0, 0), (0, -1, 0)),
    "medial": ((1, 0, 0), (0, 1, 0)),
    "ventral": ((0, 0, -1), (0, -1, 0)),
    "dorsal": ((0, 0, 1), (0, -1, 0)),
    "posterior": ((0, -1, 0), (1, 0, 0)),
}
VIEWS: tuple[View, ...] = (*_CAMERAS, "flat")
_WHOLE_BRAIN: tuple[View, View] = ("lateral", "ventral")
# Light comes over the viewer's upper left shoulder: picture right, picture up, to the viewer.
_LIGHT = np.array([-0.3, 0.45, 0.85]) / np.linalg.norm([-0.3, 0.45, 0.85])


@dataclass(frozen=True)
class SurfaceView:
    """One view of one hemisphere, as pixels.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the picture in pixels; row 0 is the top.
    pixels : numpy.ndarray of int64, shape (n_pixels,)
        Flat indices of the pixels that show cortex.
    corners : numpy.ndarray of int32, shape (n_pixels, 3)
        The full-resolution vertices around each of them.
    weights : numpy.ndarray of float32, shape (n_pixels, 3)
        Barycentric weights of the corners.
    light : numpy.ndarray of float32, shape (n_pixels,)
        Lambert shading, 0 (turned away from the light) to 1 (facing it, or flat).
    """

    shape: tuple[int, int]
    pixels: npt.NDArray[np.int64]
    corners: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    light: npt.NDArray[np.float32]

    def sample(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Interpolate a map at the pixels that show cortex.

        Parameters
        ----------
        values : numpy.ndarray, shape (163842,)
            One value per vertex; NaN where there is none.

        Returns
        -------
        numpy.ndarray of float32, shape (n_pixels,)
            NaN where the nearest vertex has no value; elsewhere missing corners do not count.
        """
        at = values.astype(np.float32)[self.corners]
        known = np.isfinite(at)
        if known.all():
            return np.asarray(np.einsum("ij,ij->i", at, self.weights), dtype=np.float32)
        weights = self.weights * known
        total = weights.sum(axis=1)
        nearest = np.argmax(self.weights, axis=1)[:, None]
        shown = np.take_along_axis(known, nearest, axis=1)[:, 0] & (total > 0)
        mixed = np.where(known, at * weights, 0.0).sum(axis=1)
        sampled: npt.NDArray[np.float32] = np.full_like(total, np.nan)
        np.divide(mixed, total, out=sampled, where=shown)
        return sampled


@lru_cache(maxsize=12)  # about 30 MB each at 0.17 mm per pixel
def surface_view(
    hemi: Hemi, view: View, mm_per_pixel: float, full: FullMesh | None = None
) -> SurfaceView:
    """Work out a view of the inflated surface, seen from far away (orthographic), or the flat one.

    Parameters
    ----------
    hemi : {"lh", "rh"}
        Hemisphere.
    view : {"lateral", "medial", "ventral", "dorsal", "posterior", "flat"}
        Side of the inflated surface that faces the viewer, or the flat surface.
    mm_per_pixel : float
        Resolution. The picture is as large as the surface needs, without a margin.
    full : FullMesh, optional
        Where the full surfaces are read; by default fsaverage5's are subdivided.

    Returns
    -------
    SurfaceView

    Raises
    ------
    InvalidParameterError
        The view is unknown.
    FileFormatError
        A file of the full surfaces cannot be read.
    """
    if view not in VIEWS:
        raise InvalidParameterError("unknown view", got=repr(view), accepted=", ".join(VIEWS))
    flat = view == "flat"
    surface = flat_surface(hemi, full) if flat else inflated_surface(hemi, full)
    axes = np.eye(3) if flat else _picture_axes(hemi, view)
    shown = surface.vertices @ axes.T
    drawn = shown[:, :2] if not flat else shown[np.unique(surface.faces), :2]
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    width, height = (int(n) for n in np.ceil((high - low) / mm_per_pixel))
    # Pixel centres lie at whole numbers; rows count downward.
    columns = (shown[:, 0] - low[0]) / mm_per_pixel - 0.5
    rows = (high[1] - shown[:, 1]) / mm_per_pixel - 0.5
    corners, weights = _rasterise(columns, rows, shown[:, 2], surface.faces, (height, width))
    pixels = np.flatnonzero(corners[:, 0] >= 0)
    corners, weights = corners[pixels], weights[pixels]
    if flat:  # nothing to see but the map
        light = np.ones(len(pixels))
    else:
        normal = (surface.normals[corners] * weights[..., None]).sum(axis=1) @ axes.T
        light = normal @ _LIGHT / np.linalg.norm(normal, axis=1)
    return SurfaceView(
        shape=(height, width),
        pixels=pixels,
        corners=corners,
        weights=weights,
        light=np.clip(light, 0.0, 1.0).astype(np.float32),
    )


def views_of(has_value: Mapping[Hemi, npt.NDArray[np.bool_]]) -> tuple[View, ...]:
    """Choose the views that show a map: lateral and ventral, or the best ones of a small part.

    Parameters
    ----------
    has_value : mapping of {"lh", "rh"} to numpy.ndarray of bool, shape (163842,)
        Where the map has values.

    Returns
    -------
    tuple of two views
        Lateral and ventral if that is nowhere, or at least half of the surface.
    """
    n_values = sum(int(has.sum()) for has in has_value.values())
    if n_values == 0 or n_values >= n_vertices():  # nothing, or half of both
        return _WHOLE_BRAIN
    return best_views(has_value)


def best_views(has_value: Mapping[Hemi, npt.NDArray[np.bool_]]) -> tuple[View, View]:
    """Choose the two views that together show most of a part of the surface.

    Parameters
    ----------
    has_value : mapping of {"lh", "rh"} to numpy.ndarray of bool, shape (163842,)
        The part, by hemisphere.

    Returns
    -------
    tuple of two views
        In the order of `VIEWS`.
    """
    # How much a vertex faces the viewer: where the surface lies flat, it is 1. That a fold may
    # hide it does not count, for the inflated surface has few.
    normals = {hemi: inflated_surface(hemi).normals[part] for hemi, part in has_value.items()}
    facing = {
        view: np.concatenate(
            [at @ _picture_axes(hemi, view)[2] for hemi, at in normals.items()]
        ).clip(0.0)
        for view in _CAMERAS
    }
    first, second = max(
        combinations(_CAMERAS, 2),
        key=lambda pair: np.maximum(facing[pair[0]], facing[pair[1]]).sum(),
    )
    return first, second


def _picture_axes(hemi: Hemi, view: View) -> npt.NDArray[np.float64]:
    """Return picture right, picture up and the way to the viewer, as rows (3, 3)."""
    camera, right = (np.array(triple, dtype=np.float64) for triple in _CAMERAS[view])
    if hemi == "rh":
        camera[0] *= -1
        if view != "posterior":  # seen from behind, right is right in both hemispheres
            right *= -1
    return np.stack([right, np.cross(camera, right), camera])


def _rasterise(
    x: npt.NDArray[np.floating[Any]],
    y: npt.NDArray[np.floating[Any]],
    depth: npt.NDArray[np.floating[Any]],
    triangles: npt.NDArray[np.int32],
    shape: tuple[int, int],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Find the nearest face at every pixel; return its corners (-1: none) and their weights."""
    height, width = shape
    x0, y0 = x[triangles[:, 0]], y[triangles[:, 0]]
    ax, ay = x[triangles[:, 1]] - x0, y[triangles[:, 1]] - y0
    bx, by = x[triangles[:, 2]] - x0, y[triangles[:, 2]] - y0
    area = ax * by - bx * ay
    facing = area < 0  # rows count downward, so a face that looks at us turns clockwise
    left = np.ceil(x[triangles].min(axis=1)).astype(np.int64)
    top = np.ceil(y[triangles].min(axis=1)).astype(np.int64)
    right = np.floor(x[triangles].max(axis=1)).astype(np.int64)
    bottom = np.floor(y[triangles].max(axis=1)).astype(np.int64)
    found = []
    # All faces at once, one pixel of their bounding boxes at a time: faces cover few pixels.
    for down in range(int((bottom - top)[facing].max()) + 1):
        tall = np.flatnonzero(facing & (top + down <= bottom))
        for across in range(int((right - left)[tall].max()) + 1):
            face = tall[left[tall] + across <= right[tall]]
            column, row = left[face] + across, top[face] + down
            dx, dy = column - x0[face], row - y0[face]
            u = (dx * by[face] - bx[face] * dy) / area[face]
            v = (ax[face] * dy - dx * ay[face]) / area[face]
            hit = (u >= 0) & (v >= 0) & (u + v <= 1)
            hit &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
            found.append((face[hit], (row * width + column)[hit], u[hit], v[hit]))
    face, pixel, u, v = (np.concatenate(part) for part in zip(*found, strict=True))
    hit_weights = np.stack([1 - u - v, u, v], axis=1).astype(np.float32)
    # Far ones first, so that the nearest face is written last and stays.
    order = np.argsort((depth[triangles[face]] * hit_weights).sum(axis=1), kind="stable")
    corners = np.full((height * width, 3), -1, dtype=np.int32)
    weights = np.zeros((height * width, 3), dtype=np.float32)
    corners[pixel[order]] = triangles[face[order]]
    weights[pixel[order]] = hit_weights[order]
    return corners, weights
