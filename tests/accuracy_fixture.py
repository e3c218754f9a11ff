"""Metadata of small brains whose accuracy is worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from berg.surface.fsaverage import n_vertices

HEMIS = ("lh", "rh")


def metadata(
    maps: Mapping[str, Any],
    rois: Mapping[str, tuple[list[int], list[int]]] | None = None,
    *,
    level: int = 0,
    datasets: tuple[str, ...] = ("nsdcore",),
    simulated: bool = False,
) -> dict[str, dict[str, Any]]:
    """Metadata with the given measures: a number, or one for each vertex, in both hemispheres."""
    n = n_vertices(level)
    fmri: dict[str, Any] = {}
    accuracy: dict[str, Any] = {}
    for side, hemi in enumerate(HEMIS):
        fmri[f"{hemi}_fsaverage_rois"] = {
            name: np.array(patches[side], dtype=np.int64) for name, patches in (rois or {}).items()
        }
        fmri[f"{hemi}_ncsnr"] = np.zeros(n, np.float32)
        for dataset in datasets:
            for name, values in maps.items():
                accuracy[f"{hemi}_{name}_{dataset}"] = np.broadcast_to(values, n).astype(np.float32)
    made = {"fmri": fmri, "encoding_models": accuracy}
    return made | ({"provenance": {"simulated": True}} if simulated else {})
