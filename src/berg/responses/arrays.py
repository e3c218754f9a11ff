"""Responses as labelled arrays: an xarray Dataset, lazy in memory or written as Zarr."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from berg.errors import (
    InvalidParameterError,
    MetadataNotFoundError,
    MissingExtraError,
    did_you_mean,
    warn,
)
from berg.responses.disk import check_space, new_folder
from berg.responses.image_maps import UNITS
from berg.responses.meshes import mesh_size

if TYPE_CHECKING:
    from xarray import Dataset

    from berg.responses.lazy import Responses

_DTYPES = ("float32", "float16")

# Values in a chunk: 32 MB of float32 where each costs a task, 8 MB where each is a file.
_DASK_CHUNK, _ZARR_CHUNK = 2**23, 2**21
# Vertices in a chunk, or a little more or less: a fifth of a hemisphere.
_CHUNK_VERTICES = 32768
# Labels and metadata of a Zarr folder beside the values, for each image, vertex, and in all.
_IMAGE_BYTES, _VERTEX_BYTES, _FOLDER_BYTES = 512, 64, 2**20


def to_xarray(responses: Responses) -> Dataset:
    """Return responses as a lazy Dataset: nothing is computed before it is asked for.

    Parameters
    ----------
    responses : Responses

    Returns
    -------
    xarray.Dataset
        With the variable ``response`` (image, vertex), float32 in z-scored units, a Dask array in
        chunks of 32 MB. The vertices of the left hemisphere come first. Coordinates: ``image``
        names; along vertex ``hemisphere`` (``"lh"``, ``"rh"``) and ``fsaverage_vertex`` (0-based,
        within its hemisphere); and, if the regions are known, ``roi`` names with ``in_roi`` (roi,
        vertex), bool. Only regions that the responses cover are listed, in each hemisphere that
        they have vertices of: a mean over a part would pass for the mean of the region.
        Attributes of the Dataset and of ``response``: ``mesh``, and ``provenance`` as JSON.

    Raises
    ------
    MissingExtraError
        If xarray or Dask is not installed.
    FileFormatError
        If the subject's metadata cannot be read.

    Warns
    -----
    BERGWarning
        If there are no metadata to take the regions from.
    """
    _check_installed("xarray", "dask")
    import dask.array

    parts = [part for part in (responses.lh, responses.rh) if part.shape[1]] or [responses.lh]
    chunks = [_chunks(part.shape, _DASK_CHUNK) for part in parts]
    images = min(n_images for n_images, _ in chunks)  # the same of both hemispheres
    arrays = [
        dask.array.from_array(  # type: ignore[no-untyped-call]
            part,
            chunks=(images, vertices),
            name=False,  # or it would hash all scores to find one
            meta=np.empty((0, 0), part.dtype),
        )
        for part, (_, vertices) in zip(parts, chunks, strict=True)
    ]
    return _label(dask.array.concatenate(arrays, axis=1), responses)  # type: ignore[no-untyped-call]


def write_zarr(
    responses: Responses,
    path: str | os.PathLike[str],
    dtype: str = "float32",
    *,
    show_progress: bool = True,
) -> Path:
    """Compute responses into a Zarr folder (version 3), whole or not at all.

    ``xarray.open_zarr(path, consolidated=False)`` gives the Dataset of `to_xarray` back.

    Parameters
    ----------
    responses : Responses
        Computed a block of images at a time.
    path : path-like
        The folder; must not exist.
    dtype : {"float32", "float16"}
        Of the stored values. float16 takes half the space and rounds to 3 digits.
    show_progress : bool, default True
        Whether to show a progress bar.

    Returns
    -------
    Path
        Of the folder.

    Raises
    ------
    InvalidParameterError
        If the folder exists already, the dtype is another, or a response is too large for it.
    MissingExtraError
        If zarr, xarray or Dask is not installed.
    ResourceError
        If the disk cannot hold it, or it cannot be written. Nothing is left behind.
    """
    _check_installed("zarr", "xarray", "dask")
    import dask.array
    import zarr

    if dtype not in _DTYPES:
        raise InvalidParameterError(
            f"responses cannot be stored as {dtype!r}.{did_you_mean(dtype, _DTYPES)}",
            got=f"dtype={dtype!r}",
            accepted=", ".join(map(repr, _DTYPES)),
        )
    hemispheres = (responses.lh, responses.rh)
    n_images, n_vertices = responses.n_images, sum(part.shape[1] for part in hemispheres)
    chunks = _chunks((n_images, n_vertices), _ZARR_CHUNK)
    value_bytes = n_images * n_vertices * np.dtype(dtype).itemsize
    label_bytes = n_images * _IMAGE_BYTES + n_vertices * _VERTEX_BYTES + _FOLDER_BYTES
    check_space(path, value_bytes + label_bytes, f"the responses to {n_images} images")
    with (
        new_folder(path) as folder,
        tqdm(total=n_images, desc="Writing", unit="image", disable=not show_progress) as bar,
    ):
        # Only labels and metadata are written from this Dataset, whose values are all zero.
        form = dask.array.zeros((n_images, n_vertices), chunks=chunks, dtype=dtype)
        _label(form, responses).to_zarr(
            folder,
            mode="w-",
            compute=False,
            zarr_format=3,
            consolidated=False,
            # Uncompressed: Zarr's zstd takes 8 % off responses and three times as long.
            encoding={"response": {"chunks": chunks, "compressors": None}},
        )
        stored: Any = zarr.open_array(folder / "response", mode="r+")
        for start in range(0, n_images, chunks[0]):
            stop, first = min(start + chunks[0], n_images), 0
            for part in hemispheres:
                last = first + part.shape[1]
                stored[start:stop, first:last] = _cast(part[start:stop], dtype)
                first = last
            bar.update(stop - start)
    return Path(path)


def _cast(values: NDArray[np.float32], dtype: str) -> NDArray[np.floating[Any]]:
    """Return values as a dtype; raise if finite ones would become infinite."""
    try:
        with np.errstate(over="raise"):
            return values.astype(dtype, copy=False)
    except FloatingPointError as err:
        raise InvalidParameterError(
            f"responses are too large for {dtype}",
            got=f"up to {np.abs(values[np.isfinite(values)]).max():g}",
            accepted=f"up to {np.finfo(dtype).max:g}",
            do='dtype="float32"',
        ) from err


def _label(values: Any, responses: Responses) -> Dataset:
    """Return a Dataset of an array (n_images, n_vertices) with the coordinates of responses."""
    import xarray

    n_lh, n_rh = len(responses.lh_vertices), len(responses.rh_vertices)
    coords: dict[str, Any] = {
        # Of Python strings: for arrays of fixed width Zarr 3 has no specification.
        "image": ("image", np.array([_utf8(name) for name in responses.names], dtype=object)),
        "hemisphere": ("vertex", np.array(["lh"] * n_lh + ["rh"] * n_rh, dtype=object)),
        "fsaverage_vertex": (
            "vertex",
            np.concatenate([responses.lh_vertices, responses.rh_vertices]),
        ),
    }
    members = _covered_regions(responses)
    if members:
        coords["roi"] = ("roi", np.array(list(members), dtype=object))
        coords["in_roi"] = (("roi", "vertex"), np.stack(list(members.values())))
    # Text: netCDF has no attributes with attributes.
    source = {"mesh": responses.mesh, "provenance": json.dumps(dict(responses.provenance))}
    # Of the variable too: a DataArray that is taken out, or written alone, keeps only its own.
    about = {"units": UNITS, "long_name": "in silico fMRI response"} | source
    return xarray.Dataset(
        {"response": (("image", "vertex"), values, about)},
        coords=coords,
        attrs=source,
    )


def _covered_regions(responses: Responses) -> Mapping[str, NDArray[np.bool_]]:
    """Return, by name, which vertices lie in each region that the responses cover."""
    if responses.regions is None:
        return {}
    try:
        indices = responses.regions.indices
    except MetadataNotFoundError as error:
        warn(f"the array has no regions of interest: {error}")
        return {}
    size = mesh_size(responses.mesh)
    members = {}
    for name in dict.fromkeys([*indices["lh"], *indices["rh"]]):
        parts, is_covered = [], True
        for hemi, vertices in (("lh", responses.lh_vertices), ("rh", responses.rh_vertices)):
            region = np.asarray(indices[hemi].get(name, ()), dtype=np.int64)
            in_region = np.zeros(size, dtype=np.bool_)
            in_region[region[region < size]] = True  # a coarser mesh has the first vertices
            parts.append(in_region[vertices])
            missing = np.count_nonzero(in_region) - np.count_nonzero(parts[-1])
            is_covered &= not (len(vertices) and missing)
        member = np.concatenate(parts)
        if is_covered and member.any():
            members[name] = member
    return members


def _chunks(shape: tuple[int, ...], n_values: int) -> tuple[int, int]:
    """Return images and vertices of a chunk of about so many values."""
    n_images, n_vertices = shape
    n_chunks = max(1, round(n_vertices / _CHUNK_VERTICES))
    vertices = max(1, -(-n_vertices // n_chunks))
    return max(1, min(n_images, n_values // vertices)), vertices


def _utf8(name: str) -> str:
    """Put a question mark for bytes of a file's name that are no text: they cannot be stored."""
    return name.encode(errors="replace").decode()


def _check_installed(*packages: str) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            "labelled arrays need zarr, xarray and Dask",
            got="no " + ", no ".join(missing),
            do='pip install "berg[scale]"',
        )
