"""Regions as a view shows them: their borders as lines, and which pixels lie inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from berg.surface.fsaverage import Hemi, neighbours, upsample
from berg.surface.raster import SurfaceView, View

LABEL_GRID = 4  # pixels of a view to one of the grid on which names are placed
_SMOOTHINGS = 8  # steps of averaging over neighbours (0.8 mm each) before a region is outlined
_SLIVER = 0.1  # of a region's area: what a view must show of it at least
_THIN = 10  # pixels: parts of a region that are no wider would be all outline, of 5 at each side

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outline:
    """One region in one view.

    Attributes
    ----------
    lines : tuple of numpy.ndarray of float, shape (n_points, 2)
        Its border: columns and rows in pixels.
    inside : numpy.ndarray of bool, shape (height, width), in pixels of the grid of names
        What of the view is inside.
    seen : float
        Share of the region's area that the view shows; less at the rim, where the surface is seen
        from the side. Areas are in vertices, of as many pixels each as most have in the view.
    """

    lines: tuple[npt.NDArray[np.float64], ...]
    inside: Mask
    seen: float


class Regions:
    """Regions to outline; what a view shows of them is worked out once for many figures.

    Parameters
    ----------
    masks : mapping of {"lh", "rh"} to mapping of str to numpy.ndarray, shape (n_vertices,)
        1 inside and 0 outside of each region, by its name, on any level of fsaverage.
    """

    def __init__(self, masks: Mapping[Hemi, Mapping[str, npt.NDArray[Any]]]) -> None:
        self._smooth = {
            hemi: {name: smoothed_region(mask) for name, mask in of_hemi.items()}
            for hemi, of_hemi in masks.items()
        }
        self._seen: dict[tuple[Hemi, View], tuple[SurfaceView, dict[str, Outline]]] = {}

    def in_view(self, hemi: Hemi, view: View, seen: SurfaceView) -> dict[str, Outline]:
        """Return the outlines of the regions that a view shows, by name."""
        known = self._seen.get((hemi, view))
        if known is None or known[0] is not seen:
            nearest = np.take_along_axis(
                seen.corners, np.argmax(seen.weights, axis=1)[:, None], axis=1
            )
            n_pixels = np.bincount(nearest[:, 0])
            usual = float(np.median(n_pixels[n_pixels > 0]))
            found = {
                name: outline
                for name, region in self._smooth[hemi].items()
                if (outline := _outline(seen, region, usual)) is not None
            }
            known = self._seen[hemi, view] = seen, found
        return known[1]


def smoothed_region(mask: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return a region's mask at full resolution, its border's single vertices evened out.

    Parameters
    ----------
    mask : numpy.ndarray, shape (n_vertices,)
        1 inside and 0 outside, on any level of fsaverage.

    Returns
    -------
    numpy.ndarray of float32, shape (163842,)
        From 0 to 1; the border is at 0.5.
    """
    mesh = neighbours()
    smooth = upsample(mask.astype(np.float32))
    n_around = 1 + np.diff(mesh.indptr)
    for _ in range(_SMOOTHINGS):
        around = np.add.reduceat(smooth[mesh.indices], mesh.indptr[:-1])
        smooth = ((smooth + around) / n_around).astype(np.float32)
    return smooth


def _outline(
    seen: SurfaceView, region: npt.NDArray[np.float32], pixels_per_vertex: float
) -> Outline | None:
    """Return what a view shows of a region; None if that is a sliver, or only thin parts of it."""
    from contourpy import contour_generator

    sampled = seen.sample(region)
    n_vertices, n_pixels = (int(np.count_nonzero(part > 0.5)) for part in (region, sampled))
    share = n_pixels / pixels_per_vertex / max(n_vertices, 1)
    if share < _SLIVER:
        return None
    # Only the part that holds the region: contouring takes as long as its picture is large.
    touched = sampled > 0
    rows, columns = np.divmod(seen.pixels[touched], seen.shape[1])
    top, left = rows.min() - 1, columns.min() - 1
    part = np.zeros((rows.max() - top + 2, columns.max() - left + 2), dtype=np.float32)
    part[rows - top, columns - left] = sampled[touched]
    found: Any = contour_generator(z=part, line_type="Separate").lines(0.5)
    lines = tuple(line + np.array([left, top]) for line in found if _mean_width(line) >= _THIN)
    inside = np.zeros(seen.shape, dtype=bool)
    inside.flat[seen.pixels] = sampled > 0.5
    on_grid = inside[::LABEL_GRID, ::LABEL_GRID]
    return Outline(lines, on_grid, share) if lines and on_grid.any() else None


def _mean_width(line: npt.NDArray[np.float64]) -> float:
    """Return twice the area over the length of a closed line: of a long stripe, its width."""
    x, y = line.T
    area = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
    length = float(np.hypot(np.diff(x, append=x[0]), np.diff(y, append=y[0])).sum())
    return 2 * area / length
