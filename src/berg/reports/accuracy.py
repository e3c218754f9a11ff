"""What a page of a model shows: accuracy on the cortex and by region, training, card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.catalog import ModelCard
from berg.citing import as_bibtex, as_text, list_citations
from berg.errors import InvalidParameterError
from berg.metadata import Metadata, is_simulated
from berg.plotting.accuracy_maps import (
    DATASET_TITLES,
    MEASURES,
    Measure,
    accuracy_map,
)
from berg.plotting.maps import HEMIS
from berg.reports.brain import legend_of, pack_map, pack_mesh, pack_regions, pack_scale
from berg.reports.pictures import cortex_uri
from berg.reports.regions import RegionIndices, as_bars
from berg.reports.rendering import render
from berg.roi_accuracy import DATASETS, LEAST_CEILING, has_measure, summarise_by_roi
from berg.surface.fsaverage import Hemi
from berg.surface.painting import ColourScale, Map, colour_scale
from berg.surface.raster import View

_PICKERS = {
    "nsdcore": "In distribution: test images of NSD-core",
    "nsdsynthetic": "Out of distribution: NSD-synthetic",
}
_DECIMALS = {"explained_variance": 0, "r2": 2, "noise_ceiling": 2}  # in the page's order
_VIEWS: tuple[View, ...] = ("lateral", "ventral")
_PARTITIONS = {"train": "Training images", "val": "Validation images", "test": "Test images"}


@dataclass(frozen=True)
class _Accuracy:
    """One map of a subject's accuracy."""

    dataset: str
    name: str
    values: Mapping[Hemi, Map]

    @property
    def measure(self) -> Measure:
        return MEASURES[self.name]

    @property
    def title(self) -> str:
        return f"{self.measure.title}, {DATASET_TITLES[self.dataset]}"


def model_page(card: ModelCard, metadata: Mapping[int, Metadata]) -> str:
    """Return the page of a model.

    Parameters
    ----------
    card : ModelCard
    metadata : mapping of int to dict
        By subject, one at least, as `berg.metadata.load_metadata` returns them. Without
        NSD-synthetic the page says so and shows the rest.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    InvalidParameterError
        If a subject's metadata have no accuracy.
    """
    maps = {subject: _accuracy_maps(each, subject) for subject, each in metadata.items()}
    keys = list(_DECIMALS)
    subjects, groups = [], []
    for subject, each in metadata.items():
        rois: RegionIndices = {hemi: each["fmri"][f"{hemi}_fsaverage_rois"] for hemi in HEMIS}
        names = [name for name in dict.fromkeys((*rois["lh"], *rois["rh"])) if _size(rois, name)]
        groups.append(
            {
                "regions": pack_regions(rois, names),
                "maps": [
                    {
                        "title": accuracy.title,
                        "scale": keys.index(accuracy.name),
                        "bars": as_bars(_medians(accuracy, rois, names)),
                        **pack_map(*(accuracy.values[hemi] for hemi in HEMIS)),
                    }
                    for accuracy in maps[subject]
                ],
            }
        )
        subjects.append(
            {
                "name": f"subject {subject}" + (", SIMULATED" if is_simulated(each) else ""),
                "maps": [
                    {"number": number, **_drawn(accuracy)}
                    for number, accuracy in enumerate(maps[subject])
                ],
                "rows": _rows(each),
                "training": _training(each),
            }
        )
    data = {
        "mesh": pack_mesh(),
        "groups": groups,
        "scales": [
            pack_scale(_scale(measure), measure.label, measure.unit.strip(), decimals)
            for measure, decimals in ((MEASURES[name], _DECIMALS[name]) for name in keys)
        ],
    }
    citations = list_citations(card)
    simulated = [str(subject) for subject, each in metadata.items() if is_simulated(each)]
    return render(
        "model",
        data,
        title=card.model_id,
        facts=[
            f"subject{'s'[: len(metadata) != 1]} {', '.join(map(str, metadata))}",
            card.training_dataset,
            str(card.facts["model_type"]),
            "how well responses to new images are predicted",
        ],
        simulated=f"Never measured in a brain: subject {', '.join(simulated)}."
        if simulated
        else "",
        notes=_missing(metadata),
        source="",
        explore_title="Accuracy on the cortex",
        explore_text="Choose a map; the brain and the bars follow. Vertices with a noise ceiling "
        f"under {LEAST_CEILING} are left blank, as in published plots: there, noise leaves little "
        "to predict.",
        subjects=subjects,
        least_ceiling=LEAST_CEILING,
        views=" and ".join(_VIEWS),
        citations=[(citation["for"], as_text(citation)) for citation in citations],
        bibtex="\n\n".join(map(as_bibtex, citations)),
        card=str(card),
    )


def _accuracy_maps(metadata: Metadata, subject: int) -> list[_Accuracy]:
    maps = [
        _Accuracy(dataset, name, accuracy_map(metadata, name, dataset))
        for dataset in DATASETS
        for name in _DECIMALS
        if has_measure(metadata, name, dataset)
    ]
    maps = [each for each in maps if any(np.isfinite(hemi).any() for hemi in each.values.values())]
    if not maps:
        raise InvalidParameterError(
            f"the metadata of subject {subject} have no accuracy to show",
            got=", ".join(map(str, metadata["encoding_models"]))[:300] or "nothing about accuracy",
            accepted=f"maps as lh_r2_nsdcore, and noise ceilings of {LEAST_CEILING} or more",
            do=f"`berg test --subject {subject}` tests the model and writes them",
        )
    return maps


def _scale(measure: Measure) -> ColourScale:
    return colour_scale([], limits=measure.limits, cmap=measure.cmap)


def _drawn(accuracy: _Accuracy) -> dict[str, Any]:
    measure, scale = accuracy.measure, _scale(accuracy.measure)
    lh, rh = (accuracy.values[hemi] for hemi in HEMIS)
    return {
        "title": accuracy.title,
        "measure": measure.title,
        "images": _PICKERS[accuracy.dataset],
        "label": measure.label,
        "legend": legend_of(scale, measure.label, _DECIMALS[accuracy.name]),
        "cortex": cortex_uri(lh, rh, scale, _VIEWS),
    }


def _medians(accuracy: _Accuracy, rois: RegionIndices, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the median of each region, (n_regions, 2): left and right hemisphere."""
    medians = np.full((len(names), 2), np.nan)
    for column, hemi in enumerate(HEMIS):
        for row, name in enumerate(names):
            inside = accuracy.values[hemi][rois[hemi].get(name, np.empty(0, np.int64))]
            if np.isfinite(inside).any():
                medians[row, column] = np.nanmedian(inside)
    return medians


def _size(rois: RegionIndices, name: str) -> int:
    return sum(len(rois[hemi].get(name, ())) for hemi in HEMIS)


def _rows(metadata: Metadata) -> list[dict[str, Any]]:
    rows = []
    for row in summarise_by_roi(metadata, LEAST_CEILING):
        percents = [row.explained_variance_percent[dataset] for dataset in DATASETS]
        rows.append(
            {
                "region": row.roi,
                "n_vertices": f"{row.n_vertices:,}",
                "scores": [
                    {
                        "percent": round(max(percent, 0.0), 1) if np.isfinite(percent) else None,
                        "text": f"{percent:.0f} %" if np.isfinite(percent) else "–",
                        "n": f"{row.n_scored[dataset]:,}",
                    }
                    for dataset, percent in zip(DATASETS, percents, strict=True)
                ],
            }
        )
    return rows


def _training(metadata: Metadata) -> list[tuple[str, str]]:
    scores = metadata["encoding_models"]
    rows = [
        (title, f"{len(scores[f'{part}_img_num']):,}")
        for part, title in _PARTITIONS.items()
        if f"{part}_img_num" in scores
    ]
    provenance: Any = metadata.get("provenance")
    if isinstance(provenance, dict):
        rows += [(_title(name), _written(value)) for name, value in provenance.items()]
    else:
        rows.append(("Provenance", "none: the file does not tell how the model was made"))
    return rows


def _missing(metadata: Mapping[int, Metadata]) -> list[str]:
    notes = []
    for subject, each in metadata.items():
        for dataset, title in DATASET_TITLES.items():
            missing = [
                MEASURES[name].title for name in _DECIMALS if not has_measure(each, name, dataset)
            ]
            if missing:
                listed = "accuracy" if len(missing) == len(MEASURES) else ", ".join(missing)
                notes.append(f"The metadata of subject {subject} have no {listed} on {title}.")
    return notes


def _title(name: object) -> str:
    text = str(name).replace("_", " ")
    return text[:1].upper() + text[1:]


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
