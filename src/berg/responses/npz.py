"""Responses saved as one `.npz`: arrays, vertices, names and provenance."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from berg import atomic
from berg.errors import FileFormatError

_RESPONSES = ("lh", "rh")  # one row an image
_DAMAGE = (KeyError, TypeError, ValueError, EOFError, OSError, BadZipFile)


@dataclass(frozen=True)
class SavedResponses:
    """In silico responses to a set of images, traceable to what made them.

    Parameters
    ----------
    lh, rh : numpy.ndarray of float32, shapes (n_images, n_lh), (n_images, n_rh)
        Responses in z-scored units.
    lh_vertices, rh_vertices : numpy.ndarray of int64, shapes (n_lh,), (n_rh,)
        Vertices on fsaverage (0-based) that the columns stand for.
    names : tuple of str
        Names of the images, one a row.
    provenance : dict
        As `EncodingModel.provenance` returns it.
    """

    lh: NDArray[np.float32]
    rh: NDArray[np.float32]
    lh_vertices: NDArray[np.int64]
    rh_vertices: NDArray[np.int64]
    names: tuple[str, ...]
    provenance: dict[str, Any]


def check_output_path(path: str | os.PathLike[str]) -> Path:
    """Return the path if responses can be saved under it.

    Meant to be asked before hours of encoding rather than after them.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Path

    Raises
    ------
    InvalidParameterError
        If it does not end in ``.npz`` or is a folder.
    ResourceError
        If its folder cannot be written to.
    """
    return atomic.check_output_path(path, "responses", ".npz")


def save_responses(path: str | os.PathLike[str], responses: SavedResponses) -> Path:
    """Write responses to a `.npz`, whole or not at all.

    The file loads with ``numpy.load(path)`` alone; its ``provenance`` is JSON text.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz``; its folder is created if need be.
    responses : SavedResponses

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    InvalidParameterError
        If the path does not end in ``.npz``.
    ResourceError
        If the file cannot be written.
    """
    path = check_output_path(path)
    with atomic.write_atomically(path) as file:
        np.savez(
            file,
            lh=responses.lh,
            rh=responses.rh,
            lh_vertices=responses.lh_vertices,
            rh_vertices=responses.rh_vertices,
            names=np.array(responses.names, dtype=np.str_),
            provenance=np.array(json.dumps(responses.provenance)),
        )
    return path


def load_responses(
    path: str | os.PathLike[str], rows: Sequence[int] | None = None
) -> SavedResponses:
    """Read what `save_responses` wrote.

    Parameters
    ----------
    path : path-like
    rows : sequence of int, optional
        Places of the images to read, 0-based; all by default. Others do not come into memory.

    Returns
    -------
    SavedResponses

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is damaged or holds something else.
    """
    with _reading(path) as saved:
        arrays = {name: saved[name] for name in saved.files if name not in _RESPONSES}
        provenance = json.loads(str(arrays.pop("provenance")))
        if not isinstance(provenance, dict):
            raise ValueError(f"provenance is {type(provenance).__name__}, no object")
        names = tuple(map(str, arrays.pop("names")))
        for name in _RESPONSES:
            arrays[name] = saved[name] if rows is None else _read_rows(saved.zip, name, rows)
        if rows is not None:
            names = tuple(names[row] for row in rows)
        saved_responses = SavedResponses(**arrays, names=names, provenance=provenance)
        _check_shapes(saved_responses)
        return saved_responses


def load_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of the images alone.

    Parameters
    ----------
    path : path-like
        As for `load_responses`, which says what is raised.

    Returns
    -------
    tuple of str
    """
    with _reading(path) as saved:
        return tuple(map(str, saved["names"]))


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a `.npz`; whatever a damaged one raises says which file it is."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            yield saved
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise FileFormatError(
            f"{path} cannot be read as responses",
            got=f"{type(error).__name__}: {error}",
            accepted="a .npz that `berg encode` wrote",
            do="encode the images again",
        ) from error


def _read_rows(archive: ZipFile, name: str, rows: Sequence[int]) -> NDArray[np.float32]:
    """Read some rows of a matrix in a `.npz`, passing over the others in the order of the file."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):  # which np.savez writes for every array of ours
            raise ValueError(f"{name} is stored in NumPy's format {version}")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if is_fortran or len(shape) != 2:
            raise ValueError(f"{name} is not one row an image: shape {shape}")
        start, n_bytes = member.tell(), shape[1] * dtype.itemsize
        read = np.empty((len(rows), shape[1]), dtype)
        for place in np.argsort(rows):
            member.seek(start + rows[place] * n_bytes)
            read[place] = np.frombuffer(member.read(n_bytes), dtype)
        return read


def _check_shapes(saved: SavedResponses) -> None:
    for hemi in _RESPONSES:
        values, vertices = getattr(saved, hemi), getattr(saved, f"{hemi}_vertices")
        if values.dtype.kind != "f" or vertices.dtype.kind not in "iu" or vertices.ndim != 1:
            raise ValueError(f"{hemi} is {values.dtype}, its vertices {vertices.dtype}")
        if values.shape != (len(saved.names), len(vertices)):
            raise ValueError(
                f"{hemi} is {values.shape} for {len(saved.names)} images, {len(vertices)} vertices"
            )
