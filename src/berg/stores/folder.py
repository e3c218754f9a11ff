"""The folder of a store: made whole or not at all, and opened only if it is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    ResourceError,
    StoreNotFoundError,
)
from berg.selection import VertexIndices
from berg.stores.arrays import HEMIS, ZarrArray, open_arrays, plan_arrays, subject_folder
from berg.stores.chunks import ROOT_FILE, ChunkFiles
from berg.stores.durable import DurableStore, sync_folders
from berg.stores.recipe import Recipe

Vertices = tuple[VertexIndices, VertexIndices]

_ATTRIBUTE = "berg_store"


def make_folder(
    path: str | os.PathLike[str],
    recipe: Recipe,
    *,
    n_components: int,
    vertices: Mapping[int, Vertices],
    provenance: Mapping[int, dict[str, Any]],
) -> None:
    """Make a store without images; parameters and errors as `Store.create`."""
    path = Path(path).absolute()
    if path.exists() or path.is_symlink():
        raise InvalidParameterError(
            f"{path} exists",
            accepted="a path without a file or folder",
            do="choose another name for the store, or remove what is there",
        )
    unfinished = path.with_name(f".{path.name}.new")
    n_vertices = {subject: (len(lh), len(rh)) for subject, (lh, rh) in vertices.items()}
    plans = plan_arrays(recipe, n_components, n_vertices)
    try:
        if unfinished.exists():  # of a process that was killed
            shutil.rmtree(unfinished)
        root = zarr.create_group(
            DurableStore(unfinished), zarr_format=3, attributes={_ATTRIBUTE: recipe.to_json()}
        )
        for subject in recipe.subjects:
            folder = subject_folder(subject)
            root.create_group(folder, attributes={"provenance": provenance[subject]})
        for name, plan in plans.items():
            plan.create(root, name)
        _, arrays = open_arrays(root, recipe)
        for subject in recipe.subjects:
            for hemi, indices in zip(HEMIS, vertices[subject], strict=True):
                arrays[f"{subject_folder(subject)}/{hemi}_vertices"][:] = indices
        sync_folders(Path(folder) for folder, _, _ in os.walk(unfinished))
        unfinished.rename(path)
    except (OSError, ResourceError) as err:
        raise ResourceError(
            f"the store {path} cannot be made",
            got=str(err.__cause__ or err),
            accepted="a folder with space, in which you may write",
            do="make space, or choose a folder that you may write to",
        ) from err
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    sync_folders([path.parent])


def open_folder(
    path: str | os.PathLike[str],
) -> tuple[ChunkFiles, dict[int, Vertices], dict[int, dict[str, Any]]]:
    """Open a store; errors as `Store.open`.

    Returns
    -------
    files : ChunkFiles
    vertices : dict of int to (lh, rh)
    provenance : dict of int to dict
        Of each subject.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise StoreNotFoundError(
            f"there is no store {path}",
            got="no such folder" if path.parent.is_dir() else f"no folder {path.parent} either",
            do="see that the path is right; `berg encode --store` makes a store",
        )
    try:
        if not path.is_dir():
            raise ValueError("a file, not a folder")
        root = zarr.open_group(DurableStore(path), mode="r+", zarr_format=3)
        if _ATTRIBUTE not in root.attrs:
            raise ValueError("a Zarr of something else")
        recipe = Recipe.from_json(root.attrs[_ATTRIBUTE])
        root_file = (path / ROOT_FILE).read_bytes()
        files = ChunkFiles(path, recipe, *open_arrays(root, recipe), root_file)
        vertices = {subject: _read_vertices(files, subject) for subject in recipe.subjects}
        provenance = {
            subject: _as_dict(root[subject_folder(subject)].attrs["provenance"])
            for subject in recipe.subjects
        }
    except FileFormatError as err:  # of the recipe
        raise FileFormatError(f"{path}: {err}") from err
    except (ValueError, LookupError, TypeError, FileNotFoundError) as err:
        raise FileFormatError(
            f"{path} is not a store that berg can read",
            got=f"{type(err).__name__}: {err}",
            accepted="a folder that `berg encode --store` made",
            do="see that the path is right; a damaged store is made again under another name",
        ) from err
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be read", got=str(err), do="see that you may read the folder"
        ) from err
    return files, vertices, provenance


def _read_vertices(files: ChunkFiles, subject: int) -> Vertices:
    """Read a subject's vertices; raise ValueError or OSError if a file is missing or damaged."""

    def read(name: str) -> VertexIndices:
        array: ZarrArray = files.arrays[name]
        if array.size:
            (files.path / name / "c" / "0").stat()  # Zarr makes zeros of a file that is missing
        vertices = np.asarray(array[:])
        vertices.flags.writeable = False
        return vertices

    lh, rh = (read(f"{subject_folder(subject)}/{hemi}_vertices") for hemi in HEMIS)
    return lh, rh


def _as_dict(entries: object) -> dict[str, Any]:
    if not isinstance(entries, dict):
        raise TypeError(f"provenance is {entries!r}")
    return entries
