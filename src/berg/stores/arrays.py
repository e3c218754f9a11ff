"""The arrays of a store: which there are, how they are cut into files, their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from berg.stores.recipe import Recipe

# Vertices of a file of responses: a fifth of the 163,842 of fsaverage; 16 MB for 128 images as
# float32.
VERTEX_CHUNK = 32769

_CRC_BYTES = 4

_FILL_VALUES = {
    "string": "",
    "uint8": 0,
    "int64": 0,
    "float32": np.nan,
    "float16": np.nan,
}

HEMIS = ("lh", "rh")

ZarrArray = zarr.Array[Any]


@dataclass(frozen=True)
class ArrayPlan:
    """One array of a store.

    Nothing is compressed: scores and responses are noise to a compressor, and other versions of
    one give other bytes. Each file ends in its checksum.

    Parameters
    ----------
    dims : tuple of str
        Names of the dimensions; images come first where there are any.
    shape, chunks : tuple of int
    dtype : str
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str

    @property
    def file_bytes(self) -> int | None:
        """Size of each of its files, which Zarr fills up at the borders; None for names."""
        if self.dtype == "string":
            return None
        return prod(self.chunks) * np.dtype(self.dtype).itemsize + _CRC_BYTES

    @property
    def n_files(self) -> int:
        """Number of its files when it is complete."""
        return prod(ceil(size / chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))

    def chunk_files(self, i_chunk: int) -> Iterator[str]:
        """Give its files with the images of a chunk, relative to its folder."""
        if len(self.shape) == 1:
            yield f"c/{i_chunk}"
            return
        for column in range(ceil(self.shape[1] / self.chunks[1])):
            yield f"c/{i_chunk}/{column}"

    def create(self, root: zarr.Group, name: str) -> None:
        """Make the array, without any values."""
        root.create_array(
            name,
            shape=self.shape,
            chunks=self.chunks,
            dtype=self.dtype,
            fill_value=_FILL_VALUES[self.dtype],
            compressors=(Crc32cCodec(),),
            dimension_names=self.dims,
        )

    def check(self, array: ZarrArray) -> None:
        """Raise ValueError if an array on disk is another one."""
        found = array.metadata.to_dict()
        if array.shape != self.shape or array.chunks != self.chunks:
            raise ValueError(
                f"{array.path} has shape {array.shape} in chunks of {array.chunks} instead of "
                f"{self.shape} in chunks of {self.chunks}"
            )
        if found["data_type"] != self.dtype:
            raise ValueError(f"{array.path} is {found['data_type']} instead of {self.dtype}")


def subject_folder(subject: int) -> str:
    """Return the name of a subject's folder in a store."""
    return f"subject-{subject:02}"


def plan_arrays(
    recipe: Recipe, n_components: int, n_vertices: Mapping[int, tuple[int, int]]
) -> dict[str, ArrayPlan]:
    """Return all arrays of a store by their names in its folder.

    Parameters
    ----------
    recipe : Recipe
    n_components : int
        Scores of an image.
    n_vertices : mapping of int to (int, int)
        Of each subject, the vertices of the left and the right hemisphere.

    Returns
    -------
    dict of str to ArrayPlan
    """
    n_images = recipe.n_images
    # Zarr fills files up: those of few images or vertices would be mostly empty.
    rows = min(recipe.chunk_images, n_images)
    plans = {
        "image_name": ArrayPlan(("image",), (n_images,), (rows,), "string"),
        "status": ArrayPlan(("image",), (n_images,), (rows,), "uint8"),
    }
    for subject in recipe.subjects:
        folder = subject_folder(subject)
        plans[f"{folder}/scores"] = ArrayPlan(
            ("image", "component"), (n_images, n_components), (rows, n_components), "float32"
        )
        for hemi, n in zip(HEMIS, n_vertices[subject], strict=True):
            dim = f"{hemi}_vertex"
            plans[f"{folder}/{hemi}_vertices"] = ArrayPlan((dim,), (n,), (max(n, 1),), "int64")
            if recipe.dtype != "scores":
                columns = min(max(n, 1), VERTEX_CHUNK)
                plans[f"{folder}/{hemi}"] = ArrayPlan(
                    ("image", dim), (n_images, n), (rows, columns), recipe.dtype
                )
    return plans


def open_arrays(
    root: zarr.Group, recipe: Recipe
) -> tuple[dict[str, ArrayPlan], dict[str, ZarrArray]]:
    """Open all arrays of a store.

    Parameters
    ----------
    root : zarr.Group
    recipe : Recipe

    Returns
    -------
    plans : dict of str to ArrayPlan
    arrays : dict of str to zarr.Array
        Under the same names.

    Raises
    ------
    KeyError, ValueError
        If there is none of a name, or it is not as the recipe has it.
    """

    def open_one(name: str) -> ZarrArray:
        found = root[name]
        if not isinstance(found, zarr.Array):
            raise ValueError(f"{name} is not an array")
        # Otherwise Zarr leaves out the file of a chunk that is all NaN: one that cannot be told
        # from a file that was lost.
        return found.with_config({"write_empty_chunks": True})

    folders = {subject: subject_folder(subject) for subject in recipe.subjects}
    n_vertices = {
        subject: (
            open_one(f"{folder}/lh_vertices").shape[0],
            open_one(f"{folder}/rh_vertices").shape[0],
        )
        for subject, folder in folders.items()
    }
    n_components = open_one(f"{folders[recipe.subjects[0]]}/scores").shape[1]
    plans = plan_arrays(recipe, n_components, n_vertices)
    arrays = {name: open_one(name) for name in plans}
    for name, plan in plans.items():
        plan.check(arrays[name])
    return plans, arrays
