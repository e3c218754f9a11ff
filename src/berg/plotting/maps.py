"""What may be drawn on the cortex: arrays of either hemisphere, or a map that knows its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError
from berg.surface.fsaverage import FULL_LEVEL, PACKAGED_LEVEL, Hemi, n_vertices, upsample
from berg.surface.painting import Map

RESPONSE_UNITS = "z"
RESPONSE_LABEL = f"in silico response ({RESPONSE_UNITS})"
HEMIS: tuple[Hemi, Hemi] = ("lh", "rh")


@runtime_checkable
class VertexMap(Protocol):
    """A map of both hemispheres that knows what it shows, as `berg.responses.SurfaceMap` does."""

    @property
    def name(self) -> str:
        """What it shows."""

    @property
    def units(self) -> str:
        """Units of its values."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What made it."""

    def whole(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return one number for every vertex of its mesh, NaN where there is none."""


def full_maps(lh: VertexMap | npt.ArrayLike | None, rh: npt.ArrayLike | None) -> dict[Hemi, Map]:
    """Return both hemispheres at full resolution, float (163842,) each.

    Raises
    ------
    InvalidParameterError
        An array is not one number per vertex, or a map of both has another beside it.
    """
    if not isinstance(lh, VertexMap):
        return {"lh": full_map(lh, "lh"), "rh": full_map(rh, "rh")}
    if rh is not None:
        raise InvalidParameterError(
            "a map of both hemispheres has another map beside it",
            got=f"{lh!r} and rh",
            accepted="a SurfaceMap alone, or an array for each hemisphere",
            do="plot_surface(surface_map)",
        )
    whole_lh, whole_rh = lh.whole()
    return {"lh": upsample(whole_lh), "rh": upsample(whole_rh)}


def full_map(values: npt.ArrayLike | None, hemi: Hemi) -> Map:
    """Return a map at full resolution, float (163842,), or refuse its shape.

    Raises
    ------
    InvalidParameterError
        It is not one number per vertex of fsaverage, fsaverage6 or fsaverage5.
    """
    if values is None:
        return np.full(n_vertices(), np.nan)
    # Coarser meshes have no more vertices than a small region: only a SurfaceMap tells them apart.
    accepted = [(n_vertices(level),) for level in range(PACKAGED_LEVEL, FULL_LEVEL + 1)]
    try:
        array = np.asarray(values)
        got = f"{array.dtype} {array.shape}"
    except ValueError:  # a ragged list, or lazy responses
        array, got = np.empty(0), repr(values)[:200]
    if array.shape not in accepted or array.dtype.kind not in "fiub":
        raise InvalidParameterError(
            f"the {hemi} map is not one number per vertex",
            got=got,
            accepted="(163842,) for fsaverage, (40962,) for fsaverage6 or (10242,) for fsaverage5",
            do="for a region: plot_surface(surface_map), where surface_map is for example\n"
            "            responses.mean_over_images(); surface_map.whole() are its arrays,\n"
            "            with NaN elsewhere",
        )
    return upsample(array)
