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
from berg.reports.brain import legend_of, pack_map, pack_mesh, pack_regions, pack_scale
from berg.reports.pictures import USUAL_VIEWS, cortex_uri
from berg.reports.regions import as_bars
from berg.reports.rendering import render
from berg.roi_accuracy import DATASETS, summarise_by_roi
from berg.surface.painting import ColourScale, colour_scale

_LEAST_CEILING = 0.1  # as in published plots
_CEILING = "noise_ceiling"
_HEMIS = ("lh", "rh")
_DATASETS = {"nsdcore": "NSD", "nsdsynthetic": "NSD-synthetic"}
_PICKERS = {
    "nsdcore": "In distribution: test images of NSD",
    "nsdsynthetic": "Out of distribution: NSD-synthetic",
}
# Key in the metadata: what it is, label with units, units behind a value, decimals
_MEASURES = {
    "explained_variance": ("Explained variance", "% of the noise ceiling", "%", 0),
    "r2": ("r²", "squared correlation of measured and predicted responses", "", 2),
    "noise_ceiling": ("Noise ceiling", "noise ceiling of r²", "", 2),
}
_PARTITIONS = {"train": "Training images", "val": "Validation images", "test": "Test images"}


@dataclass(frozen=True)
class _Accuracy:
    """One map of a subject's accuracy."""

    dataset: str
    measure: str
    lh: NDArray[np.float64]
    rh: NDArray[np.float64]

    @property
    def title(self) -> str:
        return f"{_MEASURES[self.measure][0]}, {_DATASETS[self.dataset]}"


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
    scales = _scales([each for shown in maps.values() for each in shown])
    keys = list(scales)
    subjects, groups = [], []
    for subject, each in metadata.items():
        rois = {hemi: each["fmri"][f"{hemi}_fsaverage_rois"] for hemi in _HEMIS}
        names = [name for name in dict.fromkeys((*rois["lh"], *rois["rh"])) if _size(rois, name)]
        groups.append(
            {
                "regions": pack_regions(rois, names),
                "maps": [
                    {
                        "title": accuracy.title,
                        "scale": keys.index(accuracy.measure),
                        "bars": as_bars(_medians(accuracy, rois, names)),
                        **pack_map(accuracy.lh, accuracy.rh),
                    }
                    for accuracy in maps[subject]
                ],
            }
        )
        subjects.append(
            {
                "name": f"subject {subject}" + (", SIMULATED" if is_simulated(each) else ""),
                "maps": [
                    {"number": number, **_drawn(accuracy, scales[accuracy.measure])}
                    for number, accuracy in enumerate(maps[subject])
                ],
                "rows": _rows(each),
                "training": _training(each),
            }
        )
    data = {
        "mesh": pack_mesh(),
        "groups": groups,
        "scales": [_packed_scale(measure, scale) for measure, scale in scales.items()],
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
        f"under {_LEAST_CEILING} are left blank, as in published plots: there, noise leaves little "
        "to predict.",
        subjects=subjects,
        least_ceiling=_LEAST_CEILING,
        views=" and ".join(USUAL_VIEWS),
        citations=[(citation["for"], as_text(citation)) for citation in citations],
        bibtex="\n\n".join(map(as_bibtex, citations)),
        card=str(card),
    )


def _accuracy_maps(metadata: Metadata, subject: int) -> list[_Accuracy]:
    scores = metadata["encoding_models"]
    maps = []
    for dataset in DATASETS:
        for measure in _MEASURES:
            needed = [f"{hemi}_{name}_{dataset}" for name in (measure, _CEILING) for hemi in _HEMIS]
            if not all(name in scores for name in needed):
                continue
            lh, rh, *ceilings = (np.asarray(scores[name]) for name in needed)
            lh, rh = (
                np.where(ceiling >= _LEAST_CEILING, values, np.nan)
                for values, ceiling in zip((lh, rh), ceilings, strict=True)
            )
            if np.isfinite(lh).any() or np.isfinite(rh).any():
                maps.append(_Accuracy(dataset, measure, lh, rh))
    if not maps:
        raise InvalidParameterError(
            f"the metadata of subject {subject} have no accuracy to show",
            got=", ".join(map(str, scores))[:300] or "nothing about accuracy",
            accepted=f"maps as lh_r2_nsdcore, and noise ceilings of {_LEAST_CEILING} or more",
            do=f"`berg test --subject {subject}` tests the model and writes them",
        )
    return maps


def _scales(maps: Sequence[_Accuracy]) -> dict[str, ColourScale]:
    """Return one scale a measure, so that sets of images and subjects can be compared."""
    scales = {}
    for measure in _MEASURES:
        values = [hemi for each in maps if each.measure == measure for hemi in (each.lh, each.rh)]
        if values:
            limits = (0.0, 100.0) if measure == "explained_variance" else None
            scales[measure] = colour_scale(values, limits=limits)
    return scales


def _packed_scale(measure: str, scale: ColourScale) -> dict[str, Any]:
    _, label, units, decimals = _MEASURES[measure]
    return pack_scale(scale, label, units, decimals)


def _drawn(accuracy: _Accuracy, scale: ColourScale) -> dict[str, Any]:
    _, label, _, decimals = _MEASURES[accuracy.measure]
    return {
        "title": accuracy.title,
        "measure": _MEASURES[accuracy.measure][0],
        "images": _PICKERS[accuracy.dataset],
        "label": label,
        "legend": legend_of(scale, label, decimals),
        "cortex": cortex_uri(accuracy.lh, accuracy.rh, scale, USUAL_VIEWS),
    }


def _medians(
    accuracy: _Accuracy, rois: Mapping[str, Mapping[str, NDArray[np.int64]]], names: Sequence[str]
) -> NDArray[np.float64]:
    """Return the median of each region, (n_regions, 2): left and right hemisphere."""
    medians = np.full((len(names), 2), np.nan)
    for column, (hemi, values) in enumerate((("lh", accuracy.lh), ("rh", accuracy.rh))):
        for row, name in enumerate(names):
            inside = values[rois[hemi].get(name, np.empty(0, np.int64))]
            if np.isfinite(inside).any():
                medians[row, column] = np.nanmedian(inside)
    return medians


def _size(rois: Mapping[str, Mapping[str, NDArray[np.int64]]], name: str) -> int:
    return sum(len(rois[hemi].get(name, ())) for hemi in _HEMIS)


def _rows(metadata: Metadata) -> list[dict[str, Any]]:
    rows = []
    for row in summarise_by_roi(metadata, _LEAST_CEILING):
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
        scores = each["encoding_models"]
        for dataset, title in _DATASETS.items():
            measures = [
                name
                for measure, (name, *_) in _MEASURES.items()
                if f"lh_{measure}_{dataset}" not in scores
            ]
            if measures:
                listed = "accuracy" if len(measures) == len(_MEASURES) else ", ".join(measures)
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
