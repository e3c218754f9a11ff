"""A store: scores or responses of many images in a Zarr folder, written chunk by chunk.

::

    DIR.zarr/                    attribute "berg_store": the recipe
        image_name               (image,) string
        status                   (image,) uint8: 0 not done, 1 encoded, 2 unreadable image
        subject-01/              attribute "provenance"
            lh_vertices, rh_vertices    (vertex,) int64
            scores               (image, component) float32
            lh, rh               (image, vertex) float32 or float16; not if scores are all

A chunk is done when its file in `status`, which is written last, is there. No file depends on
when, where or in which order the chunks were written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg import locks
from berg.errors import InvalidParameterError
from berg.selection import VertexIndices
from berg.stores.arrays import HEMIS, subject_folder
from berg.stores.chunks import ENCODED, NOT_DONE, UNREADABLE, ChunkFiles
from berg.stores.durable import sync_folders
from berg.stores.folder import make_folder, open_folder
from berg.stores.recipe import Recipe
from berg.stores.stored import StoredImages, StoredNames, StoredScores

__all__ = ["ENCODED", "NOT_DONE", "UNREADABLE", "Store"]

Vertices = tuple[VertexIndices, VertexIndices]


class Store:
    """Scores or responses of many images on disk, from `create` or `open`.

    Writing needs no lock where each chunk is written by one process. A store can be pickled.

    Attributes
    ----------
    path : Path
        Absolute.
    recipe : Recipe
    n_components : int
        Scores of an image.
    """

    def __init__(
        self,
        files: ChunkFiles,
        vertices: Mapping[int, Vertices],
        provenance: Mapping[int, dict[str, Any]],
    ) -> None:
        self.path = files.path
        self.recipe = files.recipe
        self.n_components = files.n_components
        self._files = files
        self._vertices = vertices
        self._provenance = provenance

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        recipe: Recipe,
        *,
        n_components: int,
        vertices: Mapping[int, Vertices],
        provenance: Mapping[int, dict[str, Any]],
    ) -> Store:
        """Make a store without images, whole or not at all.

        Two processes that may do so at once hold `berg.locks.hold(path)`.

        Parameters
        ----------
        path : path-like
            There must be nothing under it. Its folder is created if need be.
        recipe : Recipe
        n_components : int
            Scores of an image.
        vertices : mapping of int to (int64 array of shape (n_lh,), int64 array of shape (n_rh,))
            Of each subject, the vertices that its responses are of.
        provenance : mapping of int to dict
            Of each subject, as `EncodingModel.provenance` returns it.

        Returns
        -------
        Store

        Raises
        ------
        InvalidParameterError
            If there is something under the path.
        ResourceError
            If it cannot be written: no space, no permission. Nothing is left behind.
        """
        make_folder(
            path, recipe, n_components=n_components, vertices=vertices, provenance=provenance
        )
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open a store, complete or not.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        Store

        Raises
        ------
        StoreNotFoundError
            If there is nothing under the path. It is a `FileNotFoundError`.
        FileFormatError
            If it is not a store, one of a newer format, or a damaged one.
        ResourceError
            If it may not be read.
        """
        return cls(*open_folder(path))

    def check_recipe(self, asked: Recipe) -> None:
        """Raise if the store was not begun with this recipe.

        Parameters
        ----------
        asked : Recipe

        Raises
        ------
        InvalidParameterError
            If it was begun with another one; the message lists every difference.
        """
        if differences := self.recipe.differences(asked):
            raise InvalidParameterError(
                f"{self.path} was begun with other parameters",
                got="\n            ".join(differences),
                accepted="the same images, model and options as it was begun with",
                do="give those, or another name for a new store",
            )

    def provenance(self, subject: int) -> dict[str, Any]:
        """Return what a subject's responses are traced back by.

        Raises
        ------
        InvalidParameterError
            If the store does not have the subject.
        """
        self.recipe.weights_of(subject)
        return dict(self._provenance[subject])

    def vertices(self, subject: int) -> tuple[VertexIndices, VertexIndices]:
        """Return the vertices that a subject's responses are of.

        Returns
        -------
        lh, rh : numpy.ndarray of int64, shapes (n_lh,), (n_rh,)

        Raises
        ------
        InvalidParameterError
            If the store does not have the subject.
        """
        self.recipe.weights_of(subject)
        lh, rh = self._vertices[subject]
        return lh, rh

    def is_done(self) -> NDArray[np.bool_]:
        """Say which chunks are done.

        It lists one folder and reads no file: a chunk counts whose file of `status` is there
        with its whole size.

        Returns
        -------
        numpy.ndarray of bool, shape (n_chunks,)
        """
        return self._files.is_done()

    def pending(self) -> list[int]:
        """Return the numbers of the chunks that are not done, ascending."""
        return [int(i) for i in np.flatnonzero(~self.is_done())]

    def write_scores(self, i_chunk: int, subject: int, scores: NDArray[np.float32]) -> None:
        """Write a subject's scores of one chunk.

        Parameters
        ----------
        i_chunk : int
        subject : int
        scores : numpy.ndarray of float32, shape (n_chunk_images, n_components)
            NaN for images that cannot be read.

        Raises
        ------
        InvalidParameterError
            If the shape is another one, or the store has no such chunk or subject.
        ResourceError
            If they cannot be written: no space, no permission, or the store is gone or replaced.
        """
        self.recipe.weights_of(subject)
        self._files.write(f"{subject_folder(subject)}/scores", i_chunk, scores)

    def write_responses(
        self,
        i_chunk: int,
        subject: int,
        lh: NDArray[np.floating[Any]],
        rh: NDArray[np.floating[Any]],
    ) -> None:
        """Write a subject's responses of one chunk.

        They are converted to the store's dtype in blocks of at most 32,769 vertices.

        Parameters
        ----------
        i_chunk : int
        subject : int
        lh, rh : numpy.ndarray of float, shapes (n_chunk_images, n_lh), (n_chunk_images, n_rh)
            NaN for images that cannot be read.

        Raises
        ------
        InvalidParameterError
            If a shape is another one, or the store has no such chunk or subject or no responses;
            or if a response is too large for the store's dtype.
        ResourceError
            If they cannot be written: no space, no permission, or the store is gone or replaced.
        """
        self.recipe.weights_of(subject)
        if self.recipe.dtype == "scores":
            raise InvalidParameterError(
                f"{self.path} holds scores only", accepted="a store of float32 or float16"
            )
        for hemi, responses in zip(HEMIS, (lh, rh), strict=True):
            self._files.write(f"{subject_folder(subject)}/{hemi}", i_chunk, responses)

    def finish_chunk(self, i_chunk: int, names: Sequence[str], status: NDArray[np.uint8]) -> None:
        """Write the names and the status of a chunk, which is done with that.

        All that was written of it is on the disk before its status is.

        Parameters
        ----------
        i_chunk : int
        names : sequence of str
            Of the chunk's images. Bytes of a file's name that are no text are escaped.
        status : numpy.ndarray of uint8, shape (n_chunk_images,)
            `ENCODED` (1) or `UNREADABLE` (2) for each.

        Raises
        ------
        InvalidParameterError
            If a length or a value is another one, or scores or responses were not written.
        ResourceError
            If they cannot be written: no space, no permission, or the store is gone or replaced.
        """
        if not np.isin(status, (ENCODED, UNREADABLE)).all():
            raise InvalidParameterError(
                "not the status of a chunk that is done",
                got=str(np.unique(status)),
                accepted=f"{ENCODED} (encoded) or {UNREADABLE} (unreadable) for each image",
            )
        text = [name.encode("utf-8", "backslashreplace").decode() for name in names]
        self._files.write("image_name", i_chunk, np.array(text, dtype=object))
        files = self._files.of_chunk(i_chunk)
        if missing := [str(file) for file in files if not file.is_file()]:
            raise InvalidParameterError(
                f"chunk {i_chunk} is not finished: not all of it was written",
                got=f"no {missing[0]}",
                accepted="scores, and responses if the store has them, of every subject",
            )
        sync_folders({parent for file in files for parent in list(file.parents)[:3]})
        self._files.write("status", i_chunk, np.asarray(status))
        sync_folders([self.path / "status" / "c", self.path / "status"])

    def hold(self, *, wait: bool = False) -> AbstractContextManager[None]:
        """Keep the store to this process, as `berg.locks.hold` does."""
        return locks.hold(self.path, wait=wait)

    def remove_partial_files(self) -> None:
        """Remove what a process that was killed had begun to write.

        No other process may be writing: the caller holds the store.
        """
        self._files.remove_partial(self.pending())

    def status(self) -> NDArray[np.uint8]:
        """Read what became of every image.

        Returns
        -------
        numpy.ndarray of uint8, shape (n_images,)
            `NOT_DONE` (0), `ENCODED` (1) or `UNREADABLE` (2).

        Raises
        ------
        FileFormatError
            If a file is damaged.
        """
        return self._files.read_status()

    def read_scores(self, subject: int, start: int, stop: int) -> NDArray[np.float32]:
        """Read a subject's scores of some images, whose chunks are done.

        Parameters
        ----------
        subject : int
        start, stop : int
            The first image, and the first one no more.

        Returns
        -------
        numpy.ndarray of float32, shape (stop - start, n_components)

        Raises
        ------
        FileFormatError
            If a file is missing or damaged; the message says how to compute it again.
        """
        self.recipe.weights_of(subject)
        return self._files.read(f"{subject_folder(subject)}/scores", start, stop)

    def read_names(self, i_chunk: int) -> list[str]:
        """Read the names of the images of a chunk that is done.

        Raises
        ------
        InvalidParameterError
            If there is no such chunk.
        FileFormatError
            As `read_scores`.
        """
        rows = self.recipe.chunk(i_chunk)
        return [str(name) for name in self._files.read("image_name", rows.start, rows.stop)]

    def encoded(self) -> StoredImages:
        """Return the images that have scores: of chunks that are done, and readable."""
        return StoredImages.where(self.status() == ENCODED)

    def scores(self, subject: int, images: StoredImages | None = None) -> StoredScores:
        """Return a subject's scores, which are read when indexed.

        Parameters
        ----------
        subject : int
        images : StoredImages, optional
            Of which images; of all that have scores by default.

        Returns
        -------
        StoredScores

        Raises
        ------
        InvalidParameterError
            If the store does not have the subject.
        """
        self.recipe.weights_of(subject)
        return StoredScores(
            partial(self.read_scores, subject),
            self.encoded() if images is None else images,
            chunk_images=self.recipe.chunk_images,
            n_components=self.n_components,
        )

    def names(self, images: StoredImages | None = None) -> StoredNames:
        """Return the images' names, which are read when indexed.

        Parameters
        ----------
        images : StoredImages, optional
            Of which images; of all that have scores by default.

        Returns
        -------
        StoredNames
        """
        return StoredNames(
            self.read_names,
            self.encoded() if images is None else images,
            chunk_images=self.recipe.chunk_images,
        )
