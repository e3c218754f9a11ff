"""Colours of a map on the cortex: the scale, and the picture of one view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError
from berg.surface.fsaverage import Hemi
from berg.surface.full_mesh import FullMesh, sulcal_depth
from berg.surface.raster import SurfaceView

Map = npt.NDArray[np.floating[Any]]

DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"  # both tell their ends apart for colour-blind eyes
_ROBUST_PERCENTILE = 99.5  # of |values|; the few beyond it saturate
# Values across zero fade out below this share of the limit, so that the sulci stay visible.
FADE_SHARE = 0.3


@dataclass(frozen=True)
class ColourScale:
    """How values become colours.

    Attributes
    ----------
    low, high : float
        Values at the ends of the colour bar.
    cmap : str
        Name of a matplotlib colour map.
    threshold : float or None
        Values nearer to zero are left out. None: a scale across zero fades out towards it.
    bounds : tuple of two float
        Between which all values lie: percents of a whole, say, between 0 and 100.
    """

    low: float
    high: float
    cmap: str
    threshold: float | None = None
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def extend(self) -> str:
        """Which ends of the colour bar stand for values beyond it too, in matplotlib's words."""
        least, most = self.bounds
        if least < self.low:
            return "both" if self.high < most else "min"
        return "max" if self.high < most else "neither"

    def opacity(self, values: Map) -> Map:
        """Return how much of the grey surface each value covers, 0 to 1; NaN covers nothing."""
        size = np.nan_to_num(np.abs(values))
        if self.threshold is not None:
            cover = (size >= self.threshold).astype(np.float64)
        elif self.low < 0 < self.high:
            rise = np.clip(size / (FADE_SHARE * max(self.high, -self.low)), 0.0, 1.0)
            cover = rise * rise * (3 - 2 * rise)
        else:
            cover = np.ones_like(size)
        return np.where(np.isfinite(values), cover, 0.0)


def colour_scale(
    maps: Sequence[Map],
    *,
    limits: tuple[float, float] | None = None,
    cmap: str | None = None,
    threshold: float | None = None,
) -> ColourScale:
    """Choose a scale for maps that are shown together.

    Parameters
    ----------
    maps : sequence of numpy.ndarray
        The maps; NaN does not count.
    limits : tuple of two float, optional
        Values at the ends. By default from zero, or symmetric about it if any value is negative,
        to the 99.5th percentile of the absolute values.
    cmap : str, optional
        By default ``RdBu_r`` for limits around zero, else ``viridis``.
    threshold : float, optional
        Values nearer to zero are left out.

    Returns
    -------
    ColourScale

    Raises
    ------
    InvalidParameterError
        There is no finite value, the limits do not ascend, or matplotlib has no such colour map.
    """
    import matplotlib as mpl

    finite = np.concatenate([values[np.isfinite(values)] for values in maps] or [np.empty(0)])
    if limits is None:
        if not finite.size:
            raise InvalidParameterError(
                "there is nothing to draw", got="no finite value", accepted="at least one"
            )
        top = float(np.percentile(np.abs(finite), _ROBUST_PERCENTILE))
        # More than 99.5 % zeros: the largest value; nothing but zeros: any limit will do.
        top = top or float(np.abs(finite).max()) or 1.0
        limits = (-top if finite.min() < 0 else 0.0, top)
    low, high = (float(limit) for limit in limits)
    if not low < high:
        raise InvalidParameterError(
            "the limits do not ascend", got=f"limits={limits}", accepted="(low, high), low < high"
        )
    name = cmap or (DIVERGING if low < 0 < high else SEQUENTIAL)
    if name not in mpl.colormaps:
        raise InvalidParameterError(
            "matplotlib has no such colour map",
            got=f"cmap={name!r}",
            accepted=f"for example {DIVERGING!r}, {SEQUENTIAL!r}",
        )
    least = 0.0 if finite.size and finite.min() >= 0 else -np.inf
    return ColourScale(low, high, name, threshold, bounds=(least, np.inf))


def symmetric_scale(maps: Sequence[Map]) -> ColourScale:
    """Choose a scale around zero for maps that are shown together, whatever their signs.

    Parameters
    ----------
    maps : sequence of numpy.ndarray
        The maps; NaN does not count.

    Returns
    -------
    ColourScale
        To the 99.5th percentile of the absolute values on both sides.

    Raises
    ------
    InvalidParameterError
        There is no finite value.
    """
    limit = colour_scale(maps).high
    return colour_scale([], limits=(-limit, limit))


def paint(
    seen: SurfaceView, hemi: Hemi, values: Map, scale: ColourScale, full: FullMesh | None = None
) -> npt.NDArray[np.uint8]:
    """Paint one view: grey sulci and gyri, colours over them, light over both.

    Parameters
    ----------
    seen : SurfaceView
        The view.
    hemi : {"lh", "rh"}
        Its hemisphere, for the sulci.
    values : numpy.ndarray, shape (163842,)
        The map; NaN vertices stay grey.
    scale : ColourScale
        How values become colours.
    full : FullMesh, optional
        Where the sulci are read; by default they are fsaverage5's.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 4)
        Red, green, blue and opacity; transparent around the brain.
    """
    import matplotlib as mpl

    shown = seen.sample(values)
    depth = seen.sample(sulcal_depth(hemi, full))
    # Two greys with a soft border, both light: the colours are what should be seen.
    grey = 0.80 - 0.11 * np.tanh(4.0 * depth)
    share = np.clip((np.nan_to_num(shown) - scale.low) / (scale.high - scale.low), 0.0, 1.0)
    colour = mpl.colormaps[scale.cmap](share)[:, :3]
    opacity = scale.opacity(shown)[:, None]
    # The light changes brightness by a quarter at most, or the colours would leave their bar.
    light = 0.75 + 0.25 * seen.light[:, None]
    mixed = (grey[:, None] * (1.0 - opacity) + colour * opacity) * light
    picture = np.zeros((seen.shape[0] * seen.shape[1], 4), dtype=np.uint8)
    picture[:, :3] = 255  # white, so that blending at the rim darkens nothing
    picture[seen.pixels, :3] = np.rint(255 * mixed)
    picture[seen.pixels, 3] = 255
    return picture.reshape(*seen.shape, 4)
