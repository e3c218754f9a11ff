"""A model's accuracy region by region, from its metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from berg.metadata import Metadata

DATASETS = ("nsdcore", "nsdsynthetic")
"""The sets of images that models are tested on, by their names in the metadata."""

LEAST_CEILING = 0.1
"""Vertices with a lower noise ceiling (r²) do not count, as in the published plots."""

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


def has_measure(metadata: Metadata, measure: str, dataset: str) -> bool:
    """Whether the metadata hold a measure of a set of images and its noise ceiling, both sides."""
    return all(
        f"{hemi}_{name}_{dataset}" in metadata["encoding_models"]
        for hemi in _HEMIS
        for name in (measure, "noise_ceiling")
    )


def summarise_by_roi(
    metadata: Metadata, least_ceiling: float = LEAST_CEILING
) -> list[RegionAccuracy]:
    """Summarise the accuracy in the metadata for each region that the subject has.

    Parameters
    ----------
    metadata : dict
        As `berg.metadata.load_metadata` returns it. A set of images whose explained variance or
        noise ceiling is missing, in either hemisphere, has no scored vertices.
    least_ceiling : float
        Vertices with a lower noise ceiling do not count.

    Returns
    -------
    list of RegionAccuracy
        In the order of the metadata.
    """
    rois = {hemi: metadata["fmri"][f"{hemi}_fsaverage_rois"] for hemi in _HEMIS}
    rows = []
    for roi in dict.fromkeys(name for hemi in _HEMIS for name in rois[hemi]):
        vertices = {hemi: rois[hemi].get(roi, np.empty(0, np.int64)) for hemi in _HEMIS}
        if n_vertices := sum(map(len, vertices.values())):
            counted = {name: _counted(metadata, name, vertices, least_ceiling) for name in DATASETS}
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
    metadata: Metadata,
    dataset: str,
    vertices: Mapping[str, NDArray[np.int64]],
    least_ceiling: float,
) -> NDArray[np.float32]:
    """Explained variance, where it is defined, of the vertices with a high enough ceiling."""
    if not has_measure(metadata, "explained_variance", dataset):
        return np.empty(0, np.float32)
    scores = metadata["encoding_models"]
    values = []
    for hemi, chosen in vertices.items():
        ceiling = scores[f"{hemi}_noise_ceiling_{dataset}"][chosen]
        explained = scores[f"{hemi}_explained_variance_{dataset}"][chosen]
        values.append(explained[ceiling >= least_ceiling])
    joined: NDArray[np.float32] = np.concatenate(values)
    return joined[~np.isnan(joined)]
