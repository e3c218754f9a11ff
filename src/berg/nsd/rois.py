"""Regions of interest: drawn on a subject's own surface, brought to fsaverage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.errors import FileFormatError
from berg.layout import NSDFiles
from berg.nsd.maps import read_map
from berg.nsd.missing import ACCESS, GET_AGAIN, check_is_file
from berg.surface.roi_patches import ROI_COLLECTIONS

logger = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Rois = dict[str, Indices]

_HEMIS = ("lh", "rh")
_NSDGENERAL = "nsdgeneral"
# Vertices without a region have 0, "Unknown"; in NSD's volumes of the same labels -1 is what is
# no cortex (https://cvnlab.slite.page/p/X_7BBMgghj/ROIs).
_NO_REGION = (0, -1)


def roi_files(files: NSDFiles, subject: int) -> tuple[Path, ...]:
    """Return the files that `read_rois` reads, whether they are there or not.

    Parameters
    ----------
    files : NSDFiles
    subject : int
        Counted from 1.

    Returns
    -------
    tuple of Path
        Sorted. Where the subject has no nsdgeneral, fsaverage's, if that is there.
    """
    paths = {files.white_to_fsaverage(subject, hemi) for hemi in _HEMIS}
    for collection in ROI_COLLECTIONS:
        for hemi in _HEMIS:
            labels = _labels(files, subject, hemi, collection)
            paths.add(labels)
            if labels == files.roi_labels(subject, hemi, collection):
                paths.add(files.roi_names(subject, collection))
    return tuple(sorted(paths))


def read_rois(files: NSDFiles, subject: int, n_vertices: int) -> dict[str, Rois]:
    """Read every region of the model card, as vertices of fsaverage.

    Parameters
    ----------
    files : NSDFiles
    subject : int
        Counted from 1.
    n_vertices : int
        Of one hemisphere of fsaverage.

    Returns
    -------
    dict of str to dict of str to (n,) int64
        For ``"lh"`` and ``"rh"``, the card's name of each region to its sorted 0-based
        vertices; none where the subject lacks the region.

    Raises
    ------
    NSDFilesNotFoundError
        If a file does not exist.
    FileFormatError
        If names or labels cannot be read or do not belong together, or the way to fsaverage
        leads to vertices that the subject's surface does not have.
    """
    card = find_card(DEFAULT_MODEL_ID)
    rois = {hemi: dict.fromkeys(card.rois, np.empty(0, np.int64)) for hemi in _HEMIS}
    for hemi, regions in rois.items():
        to_fsaverage = files.white_to_fsaverage(subject, hemi)
        native_vertex = _read_whole_numbers(to_fsaverage)
        _check_length(to_fsaverage, native_vertex, n_vertices)
        for collection in ROI_COLLECTIONS:
            path = _labels(files, subject, hemi, collection)
            if path == files.fsaverage_nsdgeneral(hemi):
                regions[_NSDGENERAL] = _drawn_on_fsaverage(path, n_vertices)
                continue
            names = read_roi_names(files.roi_names(subject, collection))
            native = _read_whole_numbers(path)
            _check_named(path, native, names)
            _check_vertices(to_fsaverage, native_vertex, path, len(native))
            labels = native[native_vertex - 1]
            for number, name in names.items():
                name = card.roi_aliases.get(name, name)
                if name in regions:
                    regions[name] = np.flatnonzero(labels == number).astype(np.int64, copy=False)
                elif hemi == "lh":  # the names serve both hemispheres
                    logger.info("%s: %r is no region of the model card", path, name)
    return rois


def read_roi_names(path: Path) -> dict[int, str]:
    """Read the names that go with the numbers of a collection's labels.

    Parameters
    ----------
    path : Path
        Text, a region a line: its number, its name, and what else there may be, such as
        colours. Lines that are empty or begin with ``#`` do not count, nor does 0, "Unknown".

    Returns
    -------
    dict of int to str

    Raises
    ------
    NSDFilesNotFoundError
        If the file does not exist.
    FileFormatError
        If it is not text, or a line is another, or repeats a number or a name.
    """
    check_is_file(path)
    try:
        # Some editors begin a file with a mark, which this encoding drops.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise FileFormatError(f"{path} cannot be read as text", got=str(err), do=GET_AGAIN) from err
    names: dict[int, str] = {}
    for i_line, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        number = int(fields[0]) if fields[0].isascii() and fields[0].isdigit() else None
        if number is None or len(fields) < 2 or number in names or fields[1] in names.values():
            raise FileFormatError(
                f"{path} has an unexpected line",
                got=f"line {i_line}: {line[:80]!r}",
                accepted="a number and a name, such as '1 V1v', each once",
                do=GET_AGAIN,
            )
        names[number] = fields[1]
    if not names:
        raise FileFormatError(
            f"{path} names no region",
            got="no line with a number and a name",
            accepted="a number and a name a line, such as '1 V1v'",
            do=GET_AGAIN,
        )
    names.pop(0, None)
    return names


def _labels(files: NSDFiles, subject: int, hemi: str, collection: str) -> Path:
    """Return a collection's file of labels: the subject's own, or nsdgeneral's on fsaverage."""
    own = files.roi_labels(subject, hemi, collection)
    drawn = files.fsaverage_nsdgeneral(hemi)
    return drawn if collection == _NSDGENERAL and drawn.is_file() and not own.is_file() else own


def _drawn_on_fsaverage(path: Path, n_vertices: int) -> Indices:
    """Return the vertices of nsdgeneral from where it was drawn, for all subjects at once."""
    labels = _read_whole_numbers(path)
    _check_length(path, labels, n_vertices)
    return np.flatnonzero(labels > 0).astype(np.int64, copy=False)  # it is the only region


def _read_whole_numbers(path: Path) -> Indices:
    values = read_map(path)
    whole = np.isfinite(values) & (np.abs(values) < 2**31) & (values == np.floor(values))
    if not whole.all():
        raise FileFormatError(
            f"{path} holds numbers that are not whole",
            got=_first(~whole, values),
            accepted="whole numbers, one a vertex",
            do=GET_AGAIN,
        )
    return values.astype(np.int64)


def _check_length(path: Path, values: Indices, n_vertices: int) -> None:
    if len(values) != n_vertices:
        raise FileFormatError(
            f"{path} is not on the surface of the betas",
            got=f"{len(values):,} vertices",
            accepted=f"{n_vertices:,}",
            do=ACCESS,
        )


def _check_named(path: Path, labels: Indices, names: Mapping[int, str]) -> None:
    unknown = ~np.isin(labels, [*_NO_REGION, *names])
    if unknown.any():
        raise FileFormatError(
            f"{path} has labels without a name",
            got=_first(unknown, labels),
            accepted=", ".join(f"{number} ({name})" for number, name in names.items())
            + f", as {path.name.partition('.')[2]}.ctab says; 0 and -1 for none",
            do=ACCESS,
        )


def _check_vertices(
    path: Path, native_vertex: Indices, labels_path: Path, n_native_vertices: int
) -> None:
    outside = (native_vertex < 1) | (native_vertex > n_native_vertices)
    if outside.any():
        raise FileFormatError(
            f"{path} leads to vertices that the subject's surface does not have",
            got=_first(outside, native_vertex),
            accepted=f"1 to {n_native_vertices:,}, the vertices of {labels_path.name}",
            do=ACCESS,
        )


def _first(wrong: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> str:
    first = int(np.argmax(wrong))
    return f"{np.count_nonzero(wrong):,} of them, first {values[first]} at vertex {first}"
