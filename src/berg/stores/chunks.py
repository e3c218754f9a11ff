"""Reading and writing a store's arrays chunk by chunk, with errors that name the chunk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import FileFormatError, InvalidParameterError, ResourceError
from berg.stores.arrays import ArrayPlan, ZarrArray, subject_folder
from berg.stores.durable import remove_temporary_files
from berg.stores.recipe import Recipe

NOT_DONE, ENCODED, UNREADABLE = range(3)  # status of an image
ROOT_FILE = "zarr.json"  # written once, when a store is made


@dataclass(frozen=True)
class ChunkFiles:
    """The files of a store that hold images.

    Parameters
    ----------
    path : Path
        The store.
    recipe : Recipe
    plans, arrays : mapping of str to ArrayPlan, mapping of str to zarr.Array
        As `berg.stores.arrays.open_arrays` returns them.
    root_file : bytes
        Content of the store's own `zarr.json`, with the recipe.
    """

    path: Path
    recipe: Recipe
    plans: Mapping[str, ArrayPlan]
    arrays: Mapping[str, ZarrArray]
    root_file: bytes

    @property
    def n_components(self) -> int:
        """Scores of an image."""
        return self.plans[f"{subject_folder(self.recipe.subjects[0])}/scores"].shape[1]

    def of_chunk(self, i_chunk: int) -> list[Path]:
        """Return all files of a chunk but that of its status."""
        return [
            self.path / name / file
            for name, plan in self.plans.items()
            if name != "status" and plan.dims[0] == "image"
            for file in plan.chunk_files(i_chunk)
        ]

    def is_done(self) -> NDArray[np.bool_]:
        """Say which chunks have a file of `status` of the whole size; it reads none.

        Returns
        -------
        numpy.ndarray of bool, shape (n_chunks,)
        """
        sizes: dict[str, int] = {}
        try:
            with os.scandir(self.path / "status" / "c") as entries:
                sizes = {entry.name: entry.stat().st_size for entry in entries}
        except FileNotFoundError:  # no chunk is
            pass
        except OSError as err:
            raise self._unreadable(err) from err
        n_bytes = self.plans["status"].file_bytes
        n_chunks = self.recipe.n_chunks
        return np.fromiter((sizes.get(str(i)) == n_bytes for i in range(n_chunks)), np.bool_)

    def remove_partial(self, i_chunks: list[int]) -> None:
        """Remove what a process that was killed left of some chunks."""
        for name, plan in self.plans.items():
            files = {file for i_chunk in i_chunks for file in plan.chunk_files(i_chunk)}
            for folder in {(self.path / name / file).parent for file in files}:
                remove_temporary_files(folder)

    def write(self, name: str, i_chunk: int, values: NDArray[Any]) -> None:
        """Write one chunk of an array, each of its files whole.

        Raises
        ------
        InvalidParameterError
            If the shape is another one, or a value is too large for the array's dtype.
        ResourceError
            If it cannot be written, or the store is not there any more.
        """
        rows = self.recipe.chunk(i_chunk)
        plan, array = self.plans[name], self.arrays[name]
        shape = (rows.stop - rows.start, *plan.shape[1:])
        if values.shape != shape:
            raise InvalidParameterError(
                f"{name} of chunk {i_chunk} has another shape than in the store",
                got=str(values.shape),
                accepted=str(shape),
            )
        self._check_still_there()
        try:
            if len(shape) == 1:
                array[rows] = values
                return
            for start in range(0, shape[1], plan.chunks[1]):
                columns = slice(start, start + plan.chunks[1])
                with np.errstate(over="raise"):
                    array[rows, columns] = values[:, columns].astype(plan.dtype, copy=False)
        except FloatingPointError as err:
            raise InvalidParameterError(
                f"{name} of chunk {i_chunk} has values that are too large for {plan.dtype}",
                got=f"up to {np.nanmax(np.abs(values)):g}",
                accepted=f"up to {np.finfo(plan.dtype).max:g}",
                do="make a store of float32",
            ) from err
        except (ResourceError, FileNotFoundError) as err:
            raise ResourceError(
                f"chunk {i_chunk} cannot be written to {self.path}",
                got=str(err.__cause__ or err),
                accepted="a disk with space, and a folder in which you may write",
                do="make space, and run the same command again: all chunks that are done are kept",
            ) from err

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read some images of an array, whose chunks are done.

        Raises
        ------
        FileFormatError
            If a file is missing or damaged.
        ResourceError
            If a file may not be read.
        """
        n_chunk, array = self.recipe.chunk_images, self.arrays[name]
        touched = range(start // n_chunk, -(-stop // n_chunk))
        try:
            for i_chunk in touched:
                self._check_files(name, i_chunk)
            return np.asarray(array[start:stop])
        except OSError as err:
            raise self._unreadable(err) from err
        except FileFormatError:
            raise
        except ValueError:  # a checksum is wrong; which one, Zarr does not say
            for i_chunk in touched:
                try:
                    array[self.recipe.chunk(i_chunk)]
                except ValueError as err:
                    raise self._damaged(name, i_chunk, str(err)) from err
            raise

    def read_status(self) -> NDArray[np.uint8]:
        """Read the status of all images, 0 of chunks that are not done.

        It takes 0.2 ms a chunk.

        Raises
        ------
        FileFormatError
            If a file is damaged.
        ResourceError
            If a file may not be read.
        """
        status = np.zeros(self.recipe.n_images, np.uint8)
        done, array = self.is_done(), self.arrays["status"]

        def read(start: int, stop: int) -> None:
            """Read some chunks; in halves if one of them is damaged, or empty and not done."""
            if not done[start:stop].any():
                return
            images = slice(self.recipe.chunk(start).start, self.recipe.chunk(stop - 1).stop)
            try:
                status[images] = array[images]
            except ValueError as err:
                if stop - start == 1:
                    raise self._damaged("status", start, str(err)) from err
                middle = (start + stop) // 2
                read(start, middle)
                read(middle, stop)

        try:
            read(0, self.recipe.n_chunks)
        except OSError as err:
            raise self._unreadable(err) from err
        return status

    def _check_still_there(self) -> None:
        """Raise unless the folder is the store that was opened, or one of the same recipe."""
        try:
            found = (self.path / ROOT_FILE).read_bytes()
        except OSError as err:
            raise _gone(f"the store {self.path} is gone", str(err)) from err
        if found != self.root_file:
            raise _gone(f"the store {self.path} was replaced", "a store of another recipe")

    def _check_files(self, name: str, i_chunk: int) -> None:
        """Raise where a file is missing, which Zarr takes for fill values, or too short."""
        plan = self.plans[name]
        for file in plan.chunk_files(i_chunk):
            path = self.path / name / file
            try:
                n_bytes = path.stat().st_size
            except FileNotFoundError as err:
                raise self._damaged(name, i_chunk, f"{path} is missing") from err
            if plan.file_bytes not in (None, n_bytes):
                got = f"{path} has {n_bytes} bytes instead of {plan.file_bytes}"
                raise self._damaged(name, i_chunk, got)

    def _damaged(self, name: str, i_chunk: int, got: str) -> FileFormatError:
        rows = self.recipe.chunk(i_chunk)
        status = self.path / "status" / "c" / str(i_chunk)
        return FileFormatError(
            f"{name} of images {rows.start} to {rows.stop - 1} is damaged in {self.path}",
            got=got,
            accepted=f"chunk {i_chunk} as it was written",
            do=f"delete {status} and run the same `berg encode` again: it computes these images "
            "anew",
        )

    def _unreadable(self, err: OSError) -> ResourceError:
        return ResourceError(
            f"{self.path} cannot be read",
            got=str(err),
            accepted="a store on a disk that is there, which you may read",
            do="see that the disk is there and that you may read the folder",
        )


def _gone(problem: str, got: str) -> ResourceError:
    return ResourceError(
        problem,
        got=got,
        accepted="the store that was there when the run began",
        do="leave a store alone while it is written to, see that its disk is there, and run again",
    )
