"""From what a user selects (ROI names, vertex vectors) to vertex indices per hemisphere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.catalog import ModelCard
from berg.errors import (
    InvalidParameterError,
    InvalidParameterTypeError,
    did_you_mean,
    warn,
)

KEYS = ("roi", "lh_vertices", "rh_vertices")

VertexIndices = NDArray[np.int64]
# "lh" and "rh" to name to vertex indices
RoiIndices = Mapping[str, Mapping[str, VertexIndices]]


@dataclass(frozen=True)
class Selection:
    """Vertices whose responses are asked for.

    Parameters
    ----------
    lh, rh : numpy.ndarray of int64, shapes (n_lh_vertices,), (n_rh_vertices,)
        Indices on fsaverage (0-based), ascending, each once.
    rois : tuple of str
        The regions they come from, under their names in the metadata; empty if the
        vertices were not selected by region.
    """

    lh: VertexIndices
    rh: VertexIndices
    rois: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for vertices in (self.lh, self.rh):
            vertices.flags.writeable = False


class Regions:
    """A subject's regions of interest, looked up by the names and aliases of the model's card.

    Parameters
    ----------
    card : ModelCard
    subject : int
        Named in messages.
    load_rois : callable
        Returns the subject's vertex indices by hemisphere and name; called once, when a region is
        first asked for.
    """

    def __init__(self, card: ModelCard, subject: int, load_rois: Callable[[], RoiIndices]) -> None:
        self.card = card
        self.subject = subject
        self._load_rois = load_rois

    @cached_property
    def indices(self) -> RoiIndices:
        """Vertex indices (0-based, int64) of every region, by hemisphere and name.

        Raises
        ------
        MetadataNotFoundError, FileFormatError
            If the subject's metadata are missing or damaged.
        """
        return self._load_rois()

    def select(self, roi: object) -> Selection:
        """Return the vertices of a region, or of the union of several.

        Parameters
        ----------
        roi : str or sequence of str

        Returns
        -------
        Selection

        Raises
        ------
        InvalidParameterTypeError, InvalidParameterError
            If there is no such region.

        Warns
        -----
        BERGWarning
            If a region is empty in this subject.
        """
        names = _roi_names(roi, self.card)
        return _select_rois(names, self.subject, self.indices)


def select_vertices(selection: Mapping[str, Any] | None, regions: Regions) -> Selection:
    """Resolve a user's selection to vertex indices.

    Parameters
    ----------
    selection : mapping or None
        With any of the keys ``roi`` (a name or several, whose union is taken),
        ``lh_vertices`` and ``rh_vertices`` (vectors of zeros and ones, one entry a vertex).
        A key that is None counts as not given; a hemisphere that nothing selects is whole.
    regions : Regions
        The subject's; looked up only if regions are asked for.

    Returns
    -------
    Selection

    Raises
    ------
    InvalidParameterTypeError, InvalidParameterError
        If a key, a region or a vector is not accepted, or if no vertex is selected.

    Warns
    -----
    BERGWarning
        If regions override vertex vectors, or a region is empty in this subject.
    """
    given = _given(selection)
    if "roi" in given:
        if len(given) > 1:
            ignored = " and ".join(key for key in KEYS[1:] if key in given)
            warn(
                f"selection has roi and {ignored}: roi decides, {ignored} ignored",
            )
        return regions.select(given["roi"])
    n_vertices = regions.card.n_vertices
    everything = np.arange(n_vertices)
    lh, rh = (
        _selected(given[key], key, n_vertices) if key in given else everything for key in KEYS[1:]
    )
    if not len(lh) and not len(rh):
        raise InvalidParameterError(
            "selection selects no vertex",
            got="only zeros in both hemispheres",
            accepted="at least one 1 in lh_vertices or rh_vertices",
            do="leave both vectors out for the whole surface",
        )
    return Selection(lh, rh)


def _given(selection: Mapping[str, Any] | None) -> dict[str, Any]:
    if selection is None:
        return {}
    if not isinstance(selection, Mapping):
        raise InvalidParameterTypeError(
            "selection is not a dict",
            got=f"{type(selection).__name__}: {selection!r}",
            accepted=f"a dict with any of the keys {', '.join(KEYS)}",
            do='for a region of interest: selection={"roi": "V1v"}',
        )
    for key in selection:
        if key not in KEYS:
            raise InvalidParameterError(
                f"selection has no key {key!r}.{did_you_mean(key, KEYS)}",
                got=f"keys {', '.join(map(repr, selection))}",
                accepted=", ".join(KEYS),
                do='for a region of interest: selection={"roi": "V1v"}',
            )
    return {key: value for key, value in selection.items() if value is not None}


def _roi_names(roi: object, card: ModelCard) -> tuple[str, ...]:
    names = roi.tolist() if isinstance(roi, np.ndarray) else roi
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple | set | frozenset) or not all(
        isinstance(name, str) for name in names
    ):
        raise InvalidParameterTypeError(
            "roi is not the name of a region or a list of names",
            got=f"{type(roi).__name__}: {roi!r}",
            accepted=f"one or several of {', '.join(card.rois)}",
            do='for example selection={"roi": "V1v"} or {"roi": ["V1v", "V1d"]}',
        )
    if not names:
        raise InvalidParameterError(
            "roi is an empty list",
            got=repr(roi),
            accepted=f"one or several of {', '.join(card.rois)}",
            do="leave roi out (or None) for the whole surface",
        )
    resolved = []
    for name in names:
        known = card.roi_aliases.get(str(name), str(name))
        if known not in card.rois:
            options = [*card.rois, *card.roi_aliases]
            raise InvalidParameterError(
                f"there is no ROI {str(name)!r}.{did_you_mean(name, options)}",
                got=f"roi={roi!r}",
                accepted=", ".join(options),
                do="`berg describe` lists the regions with their sizes",
            )
        resolved.append(known)
    return tuple(dict.fromkeys(resolved))


def _select_rois(names: tuple[str, ...], subject: int, rois: RoiIndices) -> Selection:
    union = {}
    for hemi, title in (("lh", "left"), ("rh", "right")):
        parts = []
        for name in names:
            if name not in rois[hemi]:
                raise InvalidParameterError(
                    f"the metadata of subject {subject} have no ROI {name!r} "
                    f"in the {title} hemisphere",
                    got=f"regions {', '.join(map(repr, rois[hemi]))}"[:300],
                    accepted="metadata with every region of the model's card",
                    do="get the subject's metadata file again, or leave the region out",
                )
            vertices = rois[hemi][name]
            if not len(vertices):
                warn(
                    f"ROI {name} is empty in the {title} hemisphere of subject {subject}",
                )
            parts.append(vertices)
        union[hemi] = np.unique(np.concatenate(parts)).astype(np.int64)
    return Selection(union["lh"], union["rh"], names)


def _selected(vector: object, key: str, n_vertices: int) -> VertexIndices:
    accepted = f"a vector of {n_vertices} zeros and ones, one entry a vertex"
    do = (
        "from vertex indices: mask = np.zeros("
        f"{n_vertices}, dtype=int); mask[indices] = 1; selection={{{key!r}: mask}}"
    )
    try:
        mask = np.asarray(vector)
    except ValueError as error:  # a ragged list
        raise InvalidParameterTypeError(
            f"{key} is not a vector", got=str(error), accepted=accepted, do=do
        ) from error
    got = f"array of shape {mask.shape}, {mask.dtype}"
    if mask.dtype.kind not in "biuf":
        raise InvalidParameterTypeError(
            f"{key} is not a numeric vector", got=got, accepted=accepted, do=do
        )
    if mask.shape != (n_vertices,):
        raise InvalidParameterError(
            f"{key} has the wrong length", got=got, accepted=accepted, do=do
        )
    wrong = (mask != 0) & (mask != 1)
    if wrong.any():
        raise InvalidParameterError(
            f"{key} has other values than 0 and 1",
            got=f"{mask[wrong][0]} at vertex {int(wrong.argmax())}, "
            f"{int(wrong.sum())} such values in all",
            accepted=accepted,
            do=do,
        )
    return np.flatnonzero(mask)
