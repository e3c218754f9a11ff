"""Accuracy over the cortex as the metadata hold it: of one subject, or the average of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from berg.errors import InvalidParameterError, did_you_mean
from berg.metadata import Metadata, is_simulated
from berg.plotting.maps import HEMIS
from berg.roi_accuracy import DATASETS, LEAST_CEILING, has_measure
from berg.surface.fsaverage import Hemi, level_of
from berg.surface.painting import Map
from berg.surface.roi_patches import ROI_COLLECTIONS

DEFAULT_ROIS = ("prf-visualrois", "floc-bodies", "floc-faces", "floc-places", "floc-words")
DATASET_TITLES = {"nsdcore": "NSD-core", "nsdsynthetic": "NSD-synthetic"}


@dataclass(frozen=True)
class Measure:
    """One measure of the metadata, and how it is shown.

    Attributes
    ----------
    title, label : str
        For headings; for colour bars, with units.
    limits : tuple of two float
        Ends of the colour bar, the same for all subjects, so that figures can be compared.
    bounds : tuple of two float
        Between which all values lie.
    cmap : str
        Name of a matplotlib colour map: of even steps in lightness, told apart by all eyes.
    unit : str
        What follows a number.
    """

    title: str
    label: str
    limits: tuple[float, float]
    bounds: tuple[float, float]
    cmap: str
    unit: str = ""


# r² and its ceiling share one scale: where a model reaches the ceiling, both have one colour.
MEASURES: Mapping[str, Measure] = {
    "r2": Measure("r²", "r² (share of the variance)", (0.0, 0.8), (0.0, 1.0), "viridis"),
    "noise_ceiling": Measure(
        "Noise ceiling",
        "noise ceiling (r², share of the variance)",
        (0.0, 0.8),
        (0.0, 1.0),
        "viridis",
    ),
    "explained_variance": Measure(
        "Explained variance",
        "explained variance (% of the noise ceiling)",
        (0.0, 100.0),
        (0.0, 100.0),
        "plasma",
        " %",
    ),
}
"""The measures that are drawn, by their names in the metadata."""


def by_subject(metadata: Metadata | Mapping[int, Metadata]) -> dict[int | None, Metadata]:
    """Return metadata by subject; those of a subject alone have the number None.

    Raises
    ------
    InvalidParameterError
        There is no subject, or brains of different sizes.
    """
    subjects: dict[int | None, Any] = (
        {None: metadata} if "fmri" in metadata else {**metadata}  # type: ignore[dict-item]
    )
    if not subjects:
        raise InvalidParameterError(
            "there is nothing to draw", got="no subject", accepted="the metadata of one or more"
        )
    sizes = {number: n_vertices_of(each) for number, each in subjects.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidParameterError(
            "the subjects' brains have different sizes",
            got=", ".join(f"subject {number}: {size} vertices" for number, size in sizes.items()),
            accepted="maps on one mesh",
        )
    level_of(next(iter(sizes.values())))  # refuses what is no fsaverage
    return subjects


def n_vertices_of(metadata: Metadata) -> int:
    """Return the vertices of one hemisphere, by the first map that there is.

    Raises
    ------
    InvalidParameterError
        The metadata hold no map.
    """
    for part in ("encoding_models", "fmri"):
        for name, values in metadata[part].items():
            if name.startswith(("lh_", "rh_")) and isinstance(values, np.ndarray):
                return len(values)
    raise InvalidParameterError(
        "the metadata hold no map", got="no lh_ or rh_ array", accepted="metadata of a model"
    )


def with_measure(
    metadata: Metadata | Mapping[int, Metadata], measure: str, dataset: str
) -> dict[int | None, Metadata]:
    """Return the metadata by subject, of those that have a measure of a set of images.

    Raises
    ------
    InvalidParameterError
        The measure or dataset is unknown, no subject has it, or the subjects' brains have
        different sizes.
    """
    check_choices(measure, dataset)
    subjects = {n: m for n, m in by_subject(metadata).items() if has_measure(m, measure, dataset)}
    if not subjects:
        raise InvalidParameterError(
            f"the metadata have no {measure} of {dataset}",
            got="none of the keys that end so; models of before NSD-synthetic lack its keys",
            accepted=f"lh_{measure}_{dataset} and lh_noise_ceiling_{dataset}, and the same of rh",
            do="choose another dataset, or run `berg test`, which adds them",
        )
    return subjects


def accuracy_map(
    metadata: Metadata | Mapping[int, Metadata],
    measure: str = "explained_variance",
    dataset: str = "nsdcore",
    *,
    least_ceiling: float = LEAST_CEILING,
) -> dict[Hemi, Map]:
    """Return a measure of accuracy at every vertex, where the noise ceiling is high enough.

    Of several subjects it is the mean over those whose own ceiling is high enough there, and left
    out where these are fewer than half: one rule for all measures, so that they are of the same
    subjects at every vertex.

    Parameters
    ----------
    metadata : dict, or mapping of int to dict
        Of one subject as `berg.metadata.load_metadata` returns it, or of several by subject.
        Subjects without the measure do not count.
    measure : {"r2", "noise_ceiling", "explained_variance"}
        The last is r² in percent of the noise ceiling.
    dataset : {"nsdcore", "nsdsynthetic"}
        The images that the model was tested on, in or out of distribution.
    least_ceiling : float
        Vertices with a lower noise ceiling (r²) are left out.

    Returns
    -------
    dict of {"lh", "rh"} to numpy.ndarray of float64, shape (n_vertices,)
        NaN where it is left out or undefined.

    Raises
    ------
    InvalidParameterError
        The measure or dataset is unknown, no subject has it, or the subjects' brains have
        different sizes.
    """
    subjects = list(with_measure(metadata, measure, dataset).values())
    return {hemi: _average(subjects, hemi, measure, dataset, least_ceiling) for hemi in HEMIS}


def _average(
    subjects: Sequence[Metadata], hemi: Hemi, measure: str, dataset: str, least_ceiling: float
) -> Map:
    def stacked(name: str) -> Map:
        return np.stack([each["encoding_models"][f"{hemi}_{name}_{dataset}"] for each in subjects])

    values = stacked(measure).astype(np.float64)
    counts = np.isfinite(values) & (stacked("noise_ceiling") >= least_ceiling)
    n = counts.sum(axis=0)
    mean = np.full(len(n), np.nan)
    total = np.where(counts, values, 0.0).sum(axis=0)
    np.divide(total, n, out=mean, where=(n > 0) & (2 * n >= len(subjects)))
    return mean


def region_masks(
    metadata: Mapping[int | None, Metadata], names: Iterable[str]
) -> dict[Hemi, dict[str, Map]]:
    """Return masks of regions: a subject's own, or where more than half of several have them.

    So the areas of an atlas, of which each vertex has one, stay apart in a group too.

    Parameters
    ----------
    metadata : mapping of int or None to dict
        By subject.
    names : iterable of str
        Regions, or collections of them as in `ROI_COLLECTIONS`.

    Returns
    -------
    dict of {"lh", "rh"} to dict of str to numpy.ndarray of float64, shape (n_vertices,)
        1 inside and 0 outside. Regions that have no vertex are left out.

    Raises
    ------
    InvalidParameterError
        No subject's metadata know the name.
    """
    subjects = list(metadata.values())
    regions = {
        hemi: [each["fmri"][f"{hemi}_fsaverage_rois"] for each in subjects] for hemi in HEMIS
    }
    known = dict.fromkeys(name for rois in regions.values() for each in rois for name in each)
    wanted: dict[str, None] = {}
    for name in names:
        if name in ROI_COLLECTIONS:
            wanted |= dict.fromkeys(part for part in ROI_COLLECTIONS[name] if part in known)
        elif name in known:
            wanted[name] = None
        else:
            options = [*ROI_COLLECTIONS, *known]
            raise InvalidParameterError(
                "unknown region of interest",
                got=repr(name),
                accepted=", ".join(dict.fromkeys(options)) + "." + did_you_mean(name, options),
            )
    n_vertices = n_vertices_of(subjects[0])
    masks: dict[Hemi, dict[str, Map]] = {hemi: {} for hemi in HEMIS}
    for hemi in HEMIS:
        for name in wanted:
            n_subjects = np.zeros(n_vertices)
            for rois in regions[hemi]:
                n_subjects[rois.get(name, np.empty(0, np.int64))] += 1
            if (inside := 2 * n_subjects > len(subjects)).any():
                masks[hemi][name] = inside.astype(np.float64)
    return masks


def n_simulated(metadata: Mapping[int | None, Metadata]) -> int:
    """Return how many of the subjects are simulated."""
    return sum(is_simulated(each) for each in metadata.values())


def check_choices(measure: str, dataset: str) -> None:
    """Raise `InvalidParameterError` unless measure and dataset are known."""
    for kind, name, options in (
        ("measure", measure, tuple(MEASURES)),
        ("dataset", dataset, DATASETS),
    ):
        if name not in options:
            raise InvalidParameterError(
                f"unknown {kind} of accuracy",
                got=repr(name),
                accepted=", ".join(options) + "." + did_you_mean(name, options),
            )
