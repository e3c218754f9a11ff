"""A model's metadata: the card's two-level dict, read, checked and written."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import BERGError, FileFormatError, InvalidParameterError, MetadataNotFoundError
from berg.pickles.quoting import listed, shown
from berg.pickles.reading import load_dict
from berg.pickles.stored_array import StoredArray, read_array
from berg.pickles.writing import save_dict

Metadata = dict[str, dict[str, Any]]
Rois = dict[str, NDArray[np.int64]]

MAX_DEPTH = 8  # the card has three levels; a file may hold itself and have no end
_DO = "get the metadata from their source again, or make them again"


def load_metadata(path: str | os.PathLike[str], *, n_vertices: int | None = None) -> Metadata:
    """Read `metadata_subject-XX.npy`, running nothing that it names.

    Parameters
    ----------
    path : path-like
    n_vertices : int, optional
        Of one hemisphere. None takes the length of the file's first map.

    Returns
    -------
    dict
        ``"fmri"`` and ``"encoding_models"`` as the card has them, and what else the file
        holds. ROIs are int64 arrays of 0-based vertex indices, of length 0 where the subject
        lacks the ROI. Models of before NSD-synthetic lack its keys.

    Raises
    ------
    MetadataNotFoundError
        If there is no such file.
    UnsafePickleError, FileFormatError
        If it cannot be read (see `berg.pickles.reading`), or fails `validate_metadata`.
    """
    metadata = _in_memory(path, _open(path))
    rois = _check(metadata, os.fspath(path), FileFormatError, n_vertices)
    metadata["fmri"].update((f"{hemi}_fsaverage_rois", rois[hemi]) for hemi in rois)
    return metadata


def load_rois(path: str | os.PathLike[str], *, n_vertices: int | None = None) -> dict[str, Rois]:
    """Read the ROIs alone: no map is read.

    Parameters
    ----------
    path : path-like
    n_vertices : int, optional
        Of one hemisphere. None takes the length of the file's first map.

    Returns
    -------
    dict
        For ``"lh"`` and ``"rh"``, each ROI's int64 array of 0-based vertex indices.

    Raises
    ------
    MetadataNotFoundError, UnsafePickleError, FileFormatError
        As `load_metadata`.
    """
    return _check(_open(path), os.fspath(path), FileFormatError, n_vertices)


def simulated_n_vertices(path: str | os.PathLike[str]) -> int | None:
    """Return the size of a simulated subject's brain, which may be a small one for trying out.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    int or None
        Vertices of a hemisphere; None if there is no such file, or the subject is not
        simulated: the model's card has the sizes of real brains.

    Raises
    ------
    UnsafePickleError, FileFormatError
        As `load_metadata`.
    """
    if not os.path.exists(path):
        return None
    metadata = _open(path)
    fmri = metadata.get("fmri")
    shape = getattr(fmri.get("lh_ncsnr"), "shape", None) if isinstance(fmri, dict) else None
    return int(shape[0]) if shape and is_simulated(metadata) else None


def save_metadata(
    path: str | os.PathLike[str], metadata: Metadata, *, n_vertices: int | None = None
) -> None:
    """Write `metadata_subject-XX.npy` in the existing toolkit's form, whole or not at all.

    Parameters
    ----------
    path : path-like
    metadata : dict
        ``"fmri"`` and ``"encoding_models"`` as the card has them. Other keys are kept, such
        as ``"provenance"``: a dict of text and numbers that says where the model is from.
    n_vertices : int, optional
        Of one hemisphere.

    Raises
    ------
    InvalidParameterError
        If it fails `validate_metadata`, or holds a value that cannot be saved.
    """
    validate_metadata(metadata, n_vertices=n_vertices)
    save_dict(path, metadata)


def validate_metadata(metadata: Metadata, *, n_vertices: int | None = None) -> None:
    """Raise if the metadata are not as the card describes them.

    Parameters
    ----------
    metadata : dict
    n_vertices : int, optional
        Of one hemisphere. None takes the length of the first map.

    Raises
    ------
    InvalidParameterError
        If a part or a hemisphere's ROIs are missing, an ROI is not an array of vertex indices
        in range, a map (``lh_…``, ``rh_…``) has another shape than (n_vertices,), or image
        numbers (``…_img_num``) are not integers.
    """
    _check(metadata, "The metadata", InvalidParameterError, n_vertices)


def is_simulated(metadata: Metadata) -> bool:
    """Whether the metadata are those of a simulated subject, by their own provenance."""
    provenance: Any = metadata.get("provenance")  # which a file may have as anything
    said = provenance.get("simulated", False) if isinstance(provenance, dict) else False
    return isinstance(said, bool | int | np.bool_) and bool(said)


def summarise_metadata(metadata: Metadata) -> dict[str, dict[str, str]]:
    """Describe every entry in a few words, for people to look through.

    Parameters
    ----------
    metadata : dict
        As `load_metadata` returns it.

    Returns
    -------
    dict of str to dict of str to str
        For each part, the name of each entry to its shape and median, or to its number of
        vertices or images. A part that is not a dict is its own only entry.
    """
    summary: dict[str, dict[str, str]] = {}
    for part, entries in metadata.items():
        rows = summary.setdefault(shown(part), {})
        entries = entries if isinstance(entries, dict) else {part: entries}
        for name, entry in entries.items():
            key = shown(name)
            if key.endswith("_fsaverage_rois") and isinstance(entry, dict):
                rows[key] = f"{len(entry)} regions"
                rows.update(
                    (f"{key[:2]} {shown(roi)}", f"{v.size:,} vertices")
                    for roi, v in entry.items()
                    if isinstance(v, np.ndarray)
                )
            else:
                rows[key] = _summarise(key, entry)
    return summary


def _summarise(name: str, entry: Any) -> str:
    if not isinstance(entry, np.ndarray):
        return shown(entry, 200)
    if name.endswith("_img_num"):
        return f"{entry.size:,} images"
    if entry.dtype.kind != "f":
        return f"{entry.size:,} vertices, {np.count_nonzero(entry):,} of them not 0"
    known = entry[np.isfinite(entry)]
    middle = f"median {np.median(known):.3f}" if known.size else "no finite value"
    undefined = f", {entry.size - known.size:,} undefined" if known.size < entry.size else ""
    return f"{entry.size:,} vertices, {middle}{undefined}"


def _open(path: str | os.PathLike[str]) -> Metadata:
    try:
        return load_dict(path)
    except FileNotFoundError as err:
        raise MetadataNotFoundError(
            "there are no metadata of this model and subject",
            got=os.fspath(path),
            accepted="a file metadata_subject-XX.npy",
            do="`berg download` fetches it",
        ) from err


def _in_memory(path: str | os.PathLike[str], metadata: Metadata) -> Metadata:
    """Return the same dict with every array read from the file."""
    done: dict[int, Any] = {}  # a file may refer to one object many times

    def read(value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise FileFormatError(
                f"{os.fspath(path)} is damaged: it is nested more than {MAX_DEPTH} deep",
                got=f"a {type(value).__name__} in {MAX_DEPTH} others, or one that holds itself",
                accepted="the parts fmri and encoding_models, with their arrays",
                do=_DO,
            )
        if id(value) not in done:
            match value:
                case StoredArray() | np.ndarray():
                    done[id(value)] = read_array(value)
                case dict():
                    done[id(value)] = {key: read(part, depth + 1) for key, part in value.items()}
                case list() | tuple():
                    done[id(value)] = type(value)(read(part, depth + 1) for part in value)
                case _:
                    return value
        return done[id(value)]

    content: Metadata = read(metadata, 0)
    return content


def _check(
    metadata: Metadata, where: str, error: type[BERGError], n_vertices: int | None
) -> dict[str, Rois]:
    """Raise if the metadata are not as the card describes them; return their ROIs as int64."""
    for part in ("fmri", "encoding_models"):
        if not isinstance(metadata.get(part), dict):
            raise error(
                f"{where}: the part {part!r} is missing",
                got=listed(metadata),
                accepted="fmri, encoding_models",
                do="check that these are the metadata of a model, not its weights",
            )
    for name, values in (metadata["fmri"] | metadata["encoding_models"]).items():
        key = str(name)
        if key.endswith("_img_num"):
            _checked_integers(f"{where}: {shown(key)}", error, values)
        elif key.startswith(("lh_", "rh_")) and not isinstance(values, dict):
            shape = getattr(values, "shape", None)
            if n_vertices is None and shape:
                n_vertices = shape[0]
            if shape is None or shape != (n_vertices,):
                raise error(
                    f"{where}: {shown(key)} has the wrong shape",
                    got=f"a {type(values).__name__}" if shape is None else shown(shape),
                    accepted=f"({n_vertices or 'n_vertices'},)",
                    do=_DO,
                )
    checked: dict[str, Rois] = {}
    done: dict[int, NDArray[np.int64]] = {}  # a file may refer to one object many times
    for hemi in ("lh", "rh"):
        rois = metadata["fmri"].get(f"{hemi}_fsaverage_rois")
        if not isinstance(rois, dict):
            raise error(
                f"{where}: {hemi}_fsaverage_rois is missing",
                got=listed(metadata["fmri"]),
                accepted="a dict of vertex indices by ROI, for each hemisphere",
                do=_DO,
            )
        for name, indices in rois.items():
            if id(indices) not in done:
                label = f"{where}: {hemi} ROI {shown(name)}"
                done[id(indices)] = _checked_integers(label, error, indices, n_vertices)
        checked[hemi] = {name: done[id(indices)] for name, indices in rois.items()}
    return checked


def _checked_integers(
    name: str, error: type[BERGError], values: Any, n_values: int | None = None
) -> NDArray[np.int64]:
    """Return a 1-D array of integers from 0 up to `n_values`; raise if it is another."""
    is_array = isinstance(values, StoredArray | np.ndarray)
    if not is_array or len(values.shape) != 1:
        raise error(
            f"{name} is not an array of shape (n,)",
            got=shown(values.shape) if is_array else f"a {type(values).__name__}",
            accepted="a 1-D array of 0-based indices",
            do=_DO,
        )
    if values.shape == (0,):
        return np.empty(0, np.int64)  # of any dtype, as numpy.array([]) is float
    if values.dtype.kind not in "iu":
        raise error(
            f"{name} is not made of integers",
            got=f"{values.dtype}",
            accepted="0-based indices, not a mask",
            do=_DO,
        )
    numbers = read_array(values)
    if numbers.min() < 0 or numbers.max() >= (2**63 if n_values is None else n_values):
        raise error(
            f"{name} is out of range",
            got=f"{numbers.min()} to {numbers.max()}",
            accepted="0 or more" if n_values is None else f"0 to {n_values - 1}",
            do=_DO,
        )
    return numbers.astype(np.int64, copy=False)
