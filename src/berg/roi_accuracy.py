"""A model's accuracy region by region, from its metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.metadata import Metadata

DATASETS = ("nsdcore", "nsdsynthetic")
"""The sets of images that models are tested on, by their names in the metadata."""

_HEMIS = ("lh", "rh")


@dataclass(frozen=True)
class RegionAccuracy:
    """How well the vertices of one region are predicted, both hemispheres together.

    Attributes
    ----------
    roi : str
    n_vertices : int
        Of the region.
    n_scored : dict of str to int
        By set of images, ``"nsdcore"`` or ``"nsdsynthetic"``: the vertices whose noise ceiling
        is high enough to be counted.
    explained_variance_percent : dict of str to float
        Their median, in percent of the noise ceiling; NaN where there is no such vertex.
    """

    roi: str
    n_vertices: int
    n_scored: dict[str, int]
    explained_variance_percent: dict[str, float]


def summarise_by_roi(metadata: Metadata, least_ceiling: float = 0.1) -> list[RegionAccuracy]:
    """Summarise the accuracy in the metadata for each region that the subject has.

    Parameters
    ----------
    metadata : dict
        As `berg.metadata.load_metadata` returns it. A set of images that the model was not
        tested on has no scored vertices.
    least_ceiling : float
        Only vertices with a higher noise ceiling count, as in published plots.

    Returns
    -------
    list of RegionAccuracy
        In the order of the metadata.
    """
    rois = {hemi: metadata["fmri"][f"{hemi}_fsaverage_rois"] for hemi in _HEMIS}
    scores = metadata["encoding_models"]
    rows = []
    for roi in dict.fromkeys(name for hemi in _HEMIS for name in rois[hemi]):
        vertices = {hemi: rois[hemi].get(roi, np.empty(0, np.int64)) for hemi in _HEMIS}
        if n_vertices := sum(map(len, vertices.values())):
            counted = {name: _counted(scores, name, vertices, least_ceiling) for name in DATASETS}
            rows.append(
                RegionAccuracy(
                    roi,
                    n_vertices,
                    {name: len(values) for name, values in counted.items()},
                    {
                        name: float(np.median(values)) if len(values) else float("nan")
                        for name, values in counted.items()
                    },
                )
            )
    return rows


def _counted(
    scores: Mapping[str, Any],
    dataset: str,
    vertices: Mapping[str, NDArray[np.int64]],
    least_ceiling: float,
) -> NDArray[np.float32]:
    """Explained variance, where it is defined, of the vertices with a high enough ceiling."""
    values = [np.empty(0, np.float32)]
    for hemi, chosen in vertices.items():
        if (explained := scores.get(f"{hemi}_explained_variance_{dataset}")) is not None:
            ceiling = scores[f"{hemi}_noise_ceiling_{dataset}"][chosen]
            values.append(explained[chosen][ceiling > least_ceiling])
    joined = np.concatenate(values)
    return joined[~np.isnan(joined)]
