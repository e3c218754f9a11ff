"""What a page of responses shows: images, their maps, means by region, provenance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError
from berg.plotting import RESPONSE_LABEL, RESPONSE_UNITS
from berg.reports.brain import legend_of, pack_map, pack_mesh, pack_regions, pack_scale
from berg.reports.photographs import Photograph, find_photographs
from berg.reports.pictures import (
    PHOTOGRAPH_SIDE,
    THUMBNAIL_SIDE,
    cortex_uri,
    photograph_uri,
)
from berg.reports.regions import CoveredRegions, as_bars, covered_regions, region_means
from berg.reports.rendering import render
from berg.responses import SurfaceMap
from berg.selection import Regions
from berg.sources import show_name
from berg.surface.fsaverage import upsample
from berg.surface.painting import ColourScale, colour_scale, symmetric_scale
from berg.surface.raster import View, views_of

_SIMULATED = "This subject is simulated: the responses were never measured in a brain."
_NOTHING_TELLS = "Nothing in the file tells whether the subject is a simulated one."
_SHOWN_PROVENANCE = {
    "model_id": "Model",
    "subject": "Subject",
    "rois": "Regions selected",
    "units": "Units",
    "mesh": "Mesh",
    "coarser_by": "Made coarser by",
    "simulated": "Simulated",
    "weights_file": "Weights",
    "weights_sha256": "SHA-256 of the weights",
    "network_sha256": "SHA-256 of the network",
    "device": "Computed on",
    "precision": "Precision of the network",
    "engine": "Computed by",
}
_VERSIONS = ("berg", "torch", "numpy", "python")


@dataclass(frozen=True)
class ShownResponses:
    """Responses that a page shows.

    Attributes
    ----------
    maps : sequence of SurfaceMap
        One an image, under its name; of the same vertices. One at least.
    n_images : int
        How many there are in all.
    are_first : bool
        Whether the maps are those of the first images.
    regions : Regions or str
        The subject's, or why there are none.
    source : str
        Name of the file that they are from, or ``""``.
    folders : sequence of Path
        From which images' names may lead to their files.
    notes : sequence of str
        What else the page should say.
    """

    maps: Sequence[SurfaceMap]
    n_images: int
    are_first: bool
    regions: Regions | str
    source: str = ""
    folders: Sequence[Path] = ()
    notes: Sequence[str] = ()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What made the responses."""
        return self.maps[0].provenance


def responses_page(
    shown: ShownResponses, images_from: Sequence[str | os.PathLike[str]], berg_dir: Path
) -> str:
    """Return the page.

    Parameters
    ----------
    shown : ShownResponses
    images_from : sequence of path-like
        Sources of the photographs.
    berg_dir : Path
        Named where it lacks the subject's regions.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    InvalidParameterError
        If no image has a response.
    """
    maps = shown.maps
    wholes = [each.whole() for each in maps]
    if not any(np.isfinite(hemi).any() for whole in wholes for hemi in whole):
        raise InvalidParameterError(
            "there is nothing to show",
            got=f"{len(maps)} images whose responses are all NaN",
            accepted="at least one image with responses",
            do="choose other images: --image NAME",
        )
    scale = symmetric_scale([hemi for whole in wholes for hemi in whole])
    do = f"Regions are read from the metadata in {berg_dir}; --berg-dir names another folder."
    covered = covered_regions(shown.regions, maps[0], do)
    means = np.stack([region_means(covered, each) for each in maps], axis=1)  # region, image, 3
    views = _views_of(maps[0])
    photographs = find_photographs([each.name for each in maps], shown.folders, images_from)
    names = [show_name(name) for name in _without_common_folder([each.name for each in maps])]
    images = [
        _image(name, photograph, cortex_uri(*whole, scale, views), whole)
        for name, photograph, whole in zip(names, photographs, wholes, strict=True)
    ]
    group = {
        "regions": pack_regions(covered.indices, covered.names),
        "maps": [
            {"title": name, "scale": 0, "bars": as_bars(means[:, number]), **pack_map(*whole)}
            for number, (name, whole) in enumerate(zip(names, wholes, strict=True))
        ],
    }
    data = {
        "mesh": pack_mesh(),
        "groups": [group],
        "scales": [pack_scale(scale, RESPONSE_LABEL, RESPONSE_UNITS, 2)],
    }
    matrix_limit = float(np.nanmax(np.abs(means[..., 2]), initial=0.0)) or 1.0
    provenance = shown.provenance
    return render(
        "responses",
        data,
        title="In silico fMRI responses",
        facts=_facts(shown),
        simulated=_SIMULATED if provenance.get("simulated") else "",
        notes=[*shown.notes, *([_NOTHING_TELLS] if provenance.get("simulated") is None else [])],
        source=shown.source,
        explore_title="On the cortex",
        explore_text="Choose an image; the brain and the bars follow. All maps share one colour "
        "scale around zero, which ends at the 99.5th percentile of absolute values. Grey is the "
        "surface: values near zero, and vertices without one.",
        images=images,
        regions=covered,
        views=" and ".join(views),
        legend=legend_of(scale, RESPONSE_LABEL, 2),
        gallery_text=f"Photographs are cut to their central square. Maps show the left and the "
        f"right hemisphere, {' above '.join(views)}.",
        matrix=_matrix(covered, means[..., 2], matrix_limit),
        matrix_limit=matrix_limit,
        provenance=_provenance(provenance),
    )


def _without_common_folder(names: Sequence[str]) -> Sequence[str]:
    """Leave out the folder that all images are in: it is long, and may be nobody's business."""
    folders = {name.rpartition("/")[0] for name in names}
    is_path = len(names) > 1 or names[0].startswith("/")  # a single name may be any text
    return [name.rpartition("/")[2] for name in names] if is_path and len(folders) == 1 else names


def _views_of(shown: SurfaceMap) -> Sequence[View]:
    """Choose views by the vertices that there are: the first image may lack responses."""
    lh, rh = replace(
        shown, lh=np.zeros(len(shown.lh_vertices)), rh=np.zeros(len(shown.rh_vertices))
    ).whole()
    return views_of({"lh": np.isfinite(upsample(lh)), "rh": np.isfinite(upsample(rh))})


def _image(
    name: str,
    photograph: Photograph,
    cortex: str,
    whole: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]],
) -> dict[str, str | None]:
    pixels = photograph.pixels
    has_values = any(np.isfinite(hemi).any() for hemi in whole)
    return {
        "name": name,
        "short_name": PurePath(name).name or name,
        "photograph": None if pixels is None else photograph_uri(pixels, PHOTOGRAPH_SIDE),
        "thumbnail": None if pixels is None else photograph_uri(pixels, THUMBNAIL_SIDE),
        "why_missing": photograph.problem,
        "cortex": cortex,
        "note": "" if has_values else "no responses: the image could not be read",
    }


def _facts(shown: ShownResponses) -> list[str]:
    provenance = shown.provenance
    n_shown, n_images = len(shown.maps), shown.n_images
    count = "1 image" if n_images == 1 else f"all {n_images} images"
    some = f"{'the first ' if shown.are_first else ''}{n_shown} of {n_images:,} images"
    return [
        str(provenance.get("model_id", "model unknown")),
        f"subject {provenance['subject']}" if "subject" in provenance else "subject unknown",
        *([_written(provenance["rois"])] if provenance.get("rois") else []),
        count if n_shown == n_images else some,
        "responses in z units",
    ]


def _matrix(
    covered: CoveredRegions, means: NDArray[np.float64], limit: float
) -> list[dict[str, Any]]:
    """Return the rows of the table of regions and images, with each cell's colours."""
    scale = colour_scale([], limits=(-limit, limit))
    return [
        {"region": name, "cells": [_cell(value, scale) for value in row]}
        for name, row in zip(covered.names, means, strict=True)
    ]


def _cell(value: float, scale: ColourScale) -> dict[str, str]:
    import matplotlib as mpl

    if not np.isfinite(value):
        return {"text": "–", "background": "transparent", "ink": "inherit"}
    share = (value - scale.low) / (scale.high - scale.low)
    rgb = np.array(mpl.colormaps[scale.cmap](float(share))[:3])
    # Relative luminance and the contrast of black and white with it, as WCAG 2.2 defines them.
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return {
        "text": f"{round(value, 2) + 0.0:.2f}".replace("-", "−"),  # and zero without a sign
        "background": "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb),
        "ink": "#000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#fff",
    }


def _provenance(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (title, _written(provenance[key]))
        for key, title in _SHOWN_PROVENANCE.items()
        if provenance.get(key) not in (None, [], "")
    ]
    versions = [f"{name} {provenance[name]}" for name in _VERSIONS if name in provenance]
    return [*rows, ("Versions", ", ".join(versions))] if versions else rows


def _written(value: Any) -> str:
    match value:
        case bool():
            return "yes: not measured in a brain" if value else "no"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
