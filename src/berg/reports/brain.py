"""What the page's turning brain is made of, as JSON: mesh, maps, regions and colours.

Numbers are base64 of little-endian integers. The page computes what can be computed: it subdivides
an icosahedron for the faces, and interpolates positions from fsaverage5 as `berg.surface` does.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.surface.fsaverage import faces, level_of, load_packaged, n_vertices
from berg.surface.painting import FADE_SHARE, ColourScale

Values = NDArray[np.floating[Any]]

# fsaverage6, vertices 1.5 mm apart: on a screen they lie about four pixels from each other. A map
# of both hemispheres takes 220 kB; on fsaverage itself it would take 870 kB and show no more.
SHOWN_LEVEL = 6
_STEPS_PER_MM = 256  # positions reach 108 mm, and int16 128 mm
_SULC_STEPS = 64  # depths reach 1.9, and int8 1.98
_LARGEST, _NO_VALUE = 32767, -32768
_HEMIS = ("lh", "rh")


def pack_mesh() -> dict[str, Any]:
    """Return the inflated and the pial surface of fsaverage5, and its sulci.

    Returns
    -------
    dict
        ``inflated`` and ``pial``: int16 positions in steps of 1/256 mm, by hemisphere; ``sulc``:
        int8 depth in steps of 1/64; ``icosahedron``: 60 indices, three a face.

    Raises
    ------
    MissingExtraError
        If nilearn, whose package has the surfaces, is not installed.
    """
    surfaces = {
        name: {
            hemi: _pack(np.rint(load_packaged(hemi, surface)[0] * _STEPS_PER_MM), "<i2")
            for hemi in _HEMIS
        }
        for name, surface in (("inflated", "infl"), ("pial", "pial"))
    }
    sulc = {
        hemi: _pack(
            np.rint(np.clip(load_packaged(hemi, "sulc")[0], -1.98, 1.98) * _SULC_STEPS), "i1"
        )
        for hemi in _HEMIS
    }
    return {
        **surfaces,
        "sulc": sulc,
        "steps_per_mm": _STEPS_PER_MM,
        "icosahedron": faces(0).ravel().tolist(),
    }


def pack_map(lh: Values, rh: Values) -> dict[str, Any]:
    """Return a map of the vertices that the page shows.

    Vertices are taken as they are, not averaged: a value that the page shows under a vertex is
    that vertex's own.

    Parameters
    ----------
    lh, rh : numpy.ndarray of floating dtype, shape (n_vertices,)
        On any level of fsaverage; what is not finite has no value.

    Returns
    -------
    dict
        ``values``: int16 by hemisphere, in steps of ``step``; -32768 where there is no value. The
        step is the largest absolute value / 32767, so a value is off by half of it at most.
    """
    level = min(level_of(len(lh)), SHOWN_LEVEL)
    shown = [values[: n_vertices(level)].astype(np.float64) for values in (lh, rh)]
    largest = max(np.abs(values[np.isfinite(values)]).max(initial=0.0) for values in shown)
    step = float(largest) / _LARGEST or 1.0
    values = {
        hemi: _pack(np.where(np.isfinite(each), np.rint(each / step), _NO_VALUE), "<i2")
        for hemi, each in zip(_HEMIS, shown, strict=True)
    }
    return {"values": values, "step": step}


def pack_regions(
    regions: Mapping[str, Mapping[str, NDArray[np.int64]]], names: Sequence[str]
) -> list[dict[str, str]]:
    """Return the vertices of regions that the page shows, for outlines.

    Parameters
    ----------
    regions : mapping of {"lh", "rh"} to mapping of str to numpy.ndarray of int64
        Vertex indices by name.
    names : sequence of str
        Which regions, in order.

    Returns
    -------
    list of dict
        ``name``, and uint16 vertices by hemisphere.
    """
    n_shown = n_vertices(SHOWN_LEVEL)
    packed = []
    for name in names:
        region = {"name": name}
        for hemi in _HEMIS:
            vertices = regions[hemi].get(name, np.empty(0, np.int64))
            region[hemi] = _pack(vertices[vertices < n_shown], "<u2")
        packed.append(region)
    return packed


def pack_scale(scale: ColourScale, label: str, units: str, decimals: int) -> dict[str, Any]:
    """Return how the page colours a map.

    Parameters
    ----------
    scale : ColourScale
    label : str
        What the colours mean, with units.
    units : str
        Stands behind a value.
    decimals : int
        Of numbers on the colour bar and beside bars.

    Returns
    -------
    dict
        ``colours``: 256 × 3 uint8; ``fade``: the absolute value below which colours fade into the
        grey surface, 0 for none.
    """
    import matplotlib as mpl

    colours = mpl.colormaps[scale.cmap](np.linspace(0, 1, 256))[:, :3]
    crosses_zero = scale.low < 0 < scale.high
    return {
        "colours": _pack(np.rint(255 * colours), "u1"),
        "low": scale.low,
        "high": scale.high,
        "fade": FADE_SHARE * max(scale.high, -scale.low) if crosses_zero else 0.0,
        "label": label,
        "units": units,
        "decimals": decimals,
    }


def legend_of(scale: ColourScale, label: str, decimals: int) -> dict[str, str]:
    """Return the colour bar of still maps.

    Parameters
    ----------
    scale : ColourScale
    label : str
        What the colours mean, with units.
    decimals : int
        Of its ends.

    Returns
    -------
    dict of str to str
        ``ramp``, a CSS gradient; ``low`` and ``high``; ``label``.
    """
    import matplotlib as mpl

    stops = (255 * mpl.colormaps[scale.cmap](np.linspace(0, 1, 17))[:, :3]).round().astype(int)
    colours = ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in stops.tolist())
    low, high = (f"{end:.{decimals}f}".replace("-", "−") for end in (scale.low, scale.high))
    return {
        "ramp": f"linear-gradient(to right, {colours})",
        "low": low,
        "high": high,
        "label": label,
    }


def _pack(numbers: NDArray[Any], dtype: str) -> str:
    return b64encode(numbers.astype(dtype).tobytes()).decode("ascii")
