"""Responses saved as one `.npz`: arrays, vertices, names and provenance."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from berg.atomic import write_atomically
from berg.errors import FileFormatError, InvalidParameterError, ResourceError


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
    path = Path(path)
    if path.suffix != ".npz" or path.is_dir():
        raise InvalidParameterError(
            f"responses cannot be saved as {path}",
            got="a folder" if path.is_dir() else f"a name that ends in {path.suffix!r}",
            accepted="a file name that ends in .npz",
            do="for example --out responses.npz",
        )
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ResourceError(
            f"{path} cannot be written",
            got=f"{existing} is " + ("not writable" if existing.is_dir() else "not a folder"),
            do="choose a folder that you may write to",
        )
    return path


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
    with write_atomically(path) as file:
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


def load_responses(path: str | os.PathLike[str]) -> SavedResponses:
    """Read what `save_responses` wrote.

    Parameters
    ----------
    path : path-like

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
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        provenance = json.loads(str(arrays.pop("provenance")))
        names = tuple(map(str, arrays.pop("names")))
        return SavedResponses(**arrays, names=names, provenance=provenance)
    except (KeyError, TypeError, ValueError, EOFError, OSError, BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise FileFormatError(
            f"{path} cannot be read as responses",
            got=f"{type(error).__name__}: {error}",
            accepted="a .npz that `berg encode` wrote",
            do="encode the images again",
        ) from error
