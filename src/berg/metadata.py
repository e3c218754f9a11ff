"""A model's metadata: the card's two-level dict, read, checked and written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import BERGError, FileFormatError, InvalidParameterError, MetadataNotFoundError
from berg.pickles.reading import load_dict
from berg.pickles.stored_array import StoredArray, read_array
from berg.pickles.writing import save_dict

Metadata = dict[str, dict[str, Any]]
Rois = dict[str, NDArray[np.int64]]

MAX_DEPTH = 8  # the card has three levels; a file may hold itself and have no end


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
    _check(metadata, os.fspath(path), FileFormatError, n_vertices)
    for hemi in ("lh", "rh"):
        rois = metadata["fmri"][f"{hemi}_fsaverage_rois"]
        rois.update((name, indices.astype(np.int64, copy=False)) for name, indices in rois.items())
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
    content = _open(path)
    _check(content, os.fspath(path), FileFormatError, n_vertices)
    return {
        hemi: {
            name: read_array(indices, dtype=np.int64)
            for name, indices in content["fmri"][f"{hemi}_fsaverage_rois"].items()
        }
        for hemi in ("lh", "rh")
    }


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
    return bool(metadata.get("provenance", {}).get("simulated", False))


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
        vertices or images.
    """
    summary: dict[str, dict[str, str]] = {}
    for part, entries in metadata.items():
        rows = summary.setdefault(part, {})
        for name, entry in entries.items():
            if name.endswith("_fsaverage_rois"):
                rows[name] = f"{len(entry)} regions"
                rows.update(
                    (f"{name[:2]} {roi}", f"{len(v):,} vertices") for roi, v in entry.items()
                )
            elif isinstance(entry, np.ndarray) and entry.dtype.kind == "f":
                known = entry[np.isfinite(entry)]
                middle = f"median {np.median(known):.3f}" if known.size else "no finite value"
                undefined = entry.size - known.size
                rows[name] = f"{entry.size:,} vertices, {middle}" + (
                    f", {undefined:,} undefined" if undefined else ""
                )
            elif isinstance(entry, np.ndarray):
                rows[name] = f"{entry.size:,} images"
            else:
                rows[name] = str(entry)
    return summary


def _open(path: str | os.PathLike[str]) -> Metadata:
    if not Path(path).is_file():
        raise MetadataNotFoundError(
            "there are no metadata of this model and subject",
            got=os.fspath(path),
            accepted="a file metadata_subject-XX.npy",
            do="download it from the bucket of the model's weights",
        )
    return load_dict(path)


def _in_memory(path: str | os.PathLike[str], metadata: Metadata) -> Metadata:
    """Return the same dict with every array read from the file."""
    done: dict[int, Any] = {}  # a file may refer to one object many times

    def read(value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise FileFormatError(f"{path} is damaged: it is nested more than {MAX_DEPTH} deep.")
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


def _check(metadata: Metadata, where: str, error: type[BERGError], n_vertices: int | None) -> None:
    for part in ("fmri", "encoding_models"):
        if not isinstance(metadata.get(part), dict):
            raise error(
                f"{where}: the part {part!r} is missing",
                got=", ".join(map(str, list(metadata)[:12])) or "nothing",
                accepted="fmri, encoding_models",
                do="check that these are the metadata of a model, not its weights",
            )
    for name, values in (metadata["fmri"] | metadata["encoding_models"]).items():
        key = str(name)
        if key.endswith("_img_num"):
            _check_integers(f"{where}: {key}", error, values)
        elif key.startswith(("lh_", "rh_")) and not isinstance(values, dict):
            shape = getattr(values, "shape", None)
            if n_vertices is None and shape:
                n_vertices = shape[0]
            if shape != (n_vertices,):
                raise error(
                    f"{where}: {key} has the wrong shape",
                    got=f"{shape}",
                    accepted=f"({n_vertices},)",
                )
    for hemi in ("lh", "rh"):
        rois = metadata["fmri"].get(f"{hemi}_fsaverage_rois")
        if not isinstance(rois, dict):
            raise error(
                f"{where}: {hemi}_fsaverage_rois is missing",
                got=", ".join(map(str, metadata["fmri"])),
            )
        for name, indices in rois.items():
            _check_integers(f"{where}: {hemi} ROI {name}", error, indices, n_vertices)


def _check_integers(
    name: str, error: type[BERGError], values: Any, n_values: int | None = None
) -> None:
    """Raise unless `values` is a 1-D array of integers from 0 up to `n_values`."""
    if not isinstance(values, StoredArray | np.ndarray) or len(values.shape) != 1:
        raise error(f"{name} is not an array of shape (n,).", got=f"a {type(values).__name__}")
    if values.shape == (0,):
        return  # of any dtype, as numpy.array([]) is float
    if values.dtype.kind not in "iu":
        raise error(
            f"{name} is not made of integers",
            got=f"{values.dtype}",
            accepted="0-based indices, not a mask",
        )
    numbers = read_array(values)
    if numbers.min() < 0 or (n_values is not None and numbers.max() >= n_values):
        raise error(
            f"{name} is out of range",
            got=f"{numbers.min()} to {numbers.max()}",
            accepted="0 or more" if n_values is None else f"0 to {n_values - 1}",
        )
