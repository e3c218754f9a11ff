"""A subject's regions of interest: whose responses are of, and means of maps over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import BERGError
from berg.layout import cached_simulations
from berg.metadata import Metadata, is_simulated
from berg.responses import SavedResponses, SurfaceMap
from berg.responses.meshes import mesh_size
from berg.selection import Regions
from berg.toolkit import BERG

RegionIndices = Mapping[str, Mapping[str, NDArray[np.int64]]]

_HEMIS = ("lh", "rh")
_NONE = np.empty(0, np.int64)
UNKNOWN_SUBJECT = "nothing tells which subject this is"


@dataclass(frozen=True)
class CoveredRegions:
    """Regions of which a map has all vertices.

    Attributes
    ----------
    names : tuple of str
        In the order of the metadata.
    indices : mapping of {"lh", "rh"} to mapping of str to numpy.ndarray of int64
        Their vertices on the map's mesh.
    note : str
        What is left out, and why.
    """

    names: tuple[str, ...] = ()
    indices: RegionIndices = field(default_factory=lambda: {"lh": {}, "rh": {}})
    note: str = ""


def find_regions(saved: SavedResponses, berg: BERG) -> Regions | str:
    """Find the regions of the brain that responses are of.

    A simulated subject has the number of a measured one, and other regions. It is known by the
    SHA-256 of its weights, so that the demo's is found in the cache too.

    Parameters
    ----------
    saved : SavedResponses
    berg : BERG
        With the berg_dir to look in first.

    Returns
    -------
    Regions or str
        The subject's, which tell of missing or damaged metadata when they are read; or why there
        are none.
    """
    made_by = saved.provenance
    try:
        model_id, subject = made_by["model_id"], made_by["subject"]
        regions = berg.regions(model_id, subject)
    except (BERGError, KeyError):
        return UNKNOWN_SUBJECT
    problem = ""
    places = [berg]
    if made_by.get("simulated"):
        places += map(BERG, cached_simulations())
    for each in places:
        try:
            metadata = each.get_model_metadata(model_id, subject)
        except BERGError:
            continue
        found = each.regions(model_id, subject)
        if _are_of_one_brain(saved, metadata, found.card.n_vertices):
            return found
        if each is berg:
            kind = "simulated" if is_simulated(metadata) else "measured"
            problem = (
                f"the responses are of another brain than the metadata of subject {subject}, "
                f"which are of a {kind} one"
            )
    return problem or regions


def _are_of_one_brain(saved: SavedResponses, metadata: Metadata, n_vertices: int) -> bool:
    made_by, kept = saved.provenance, metadata.get("provenance")
    if bool(made_by.get("simulated")) != is_simulated(metadata):
        return False
    mesh = made_by.get("mesh")
    last = max(vertices.max(initial=0) for vertices in (saved.lh_vertices, saved.rh_vertices))
    if n_vertices < (mesh_size(str(mesh)) if mesh else last + 1):
        return False
    weights = kept.get("weights_sha256") if isinstance(kept, dict) else None
    return not made_by.get("simulated") or weights in (None, made_by.get("weights_sha256"))


def covered_regions(regions: Regions | str, shown: SurfaceMap, do: str) -> CoveredRegions:
    """Find the regions that lie within a map's vertices.

    Parameters
    ----------
    regions : Regions or str
        The subject's, or why there are none.
    shown : SurfaceMap
    do : str
        What to do where there are no metadata.

    Returns
    -------
    CoveredRegions
        Without regions if the metadata are missing or damaged; the note says why.
    """
    if isinstance(regions, str):
        return CoveredRegions(note=f"No bars: {regions}. {do}")
    try:
        indices = regions.indices
    except BERGError as error:
        problem = str(error).splitlines()[0]
        return CoveredRegions(note=f"No bars: {problem}. {do}")
    size = mesh_size(shown.mesh)
    of_map = dict(zip(_HEMIS, (shown.lh_vertices, shown.rh_vertices), strict=True))
    names, partly = [], []
    on_mesh: dict[str, dict[str, NDArray[np.int64]]] = {hemi: {} for hemi in _HEMIS}
    for name in dict.fromkeys(name for hemi in _HEMIS for name in indices[hemi]):
        n_wanted = n_there = 0
        for hemi, there in of_map.items():
            # A hemisphere that was left out is left out of the regions too.
            vertices = indices[hemi].get(name, _NONE) if len(there) else _NONE
            on_mesh[hemi][name] = vertices[vertices < size]
            n_wanted += len(on_mesh[hemi][name])
            n_there += int(np.isin(on_mesh[hemi][name], there).sum())
        if n_wanted and n_there == n_wanted:
            names.append(name)
        elif n_there:
            partly.append(name)
    notes = [
        f"The responses have no vertices in the {side} hemisphere, nor have the regions here."
        for side, there in zip(("left", "right"), of_map.values(), strict=True)
        if not len(there)
    ]
    if partly:
        notes.append(f"Left out, as the responses have only a part of them: {', '.join(partly)}.")
    if not names:
        notes.insert(0, "No bars: the responses have all vertices of no region.")
    return CoveredRegions(tuple(names), on_mesh, " ".join(notes))


def region_means(covered: CoveredRegions, shown: SurfaceMap) -> NDArray[np.float64]:
    """Take the mean of a map over each region.

    Parameters
    ----------
    covered : CoveredRegions
    shown : SurfaceMap

    Returns
    -------
    numpy.ndarray of float64, shape (n_regions, 3)
        Left hemisphere, right hemisphere, and all vertices of both; in the map's units. NaN where
        there is no vertex, or one without a value.
    """
    whole = dict(zip(_HEMIS, shown.whole(), strict=True))
    means = np.full((len(covered.names), 3), np.nan)
    for row, name in enumerate(covered.names):
        parts = [whole[hemi][covered.indices[hemi][name]].astype(np.float64) for hemi in _HEMIS]
        for column, values in enumerate((*parts, np.concatenate(parts))):
            if len(values):
                means[row, column] = values.mean()
    return means


def as_bars(means: NDArray[np.floating[Any]]) -> list[Sequence[float | None]]:
    """Return left and right means as JSON has them: None for what is not finite."""
    return [
        [round(float(value), 5) if np.isfinite(value) else None for value in row[:2]]
        for row in means
    ]
