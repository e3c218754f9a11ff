"""What a store holds, as if it were an array or a list in memory; read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidIndexError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class StoredImages:
    """Which of a store's images: runs of neighbours, in order.

    An image that is left out costs 16 bytes; a million that are there cost nothing.

    Parameters
    ----------
    starts : numpy.ndarray of int64, shape (n_runs,)
        The first image of each run.
    ends : numpy.ndarray of int64, shape (n_runs,)
        How many images this run and those before it have.
    """

    starts: Indices
    ends: Indices

    @classmethod
    def where(cls, is_there: NDArray[np.bool_]) -> StoredImages:
        """Return the images for which a mask of shape (n_images,) is true."""
        edges = np.flatnonzero(np.diff(is_there, prepend=False, append=False))
        starts, stops = edges[::2], edges[1::2]
        return cls(starts, np.cumsum(stops - starts))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def numbers(self, indices: Indices) -> Indices:
        """Return which of the store's images some of these are.

        Parameters
        ----------
        indices : numpy.ndarray of int64, shape (n,)
            From 0 to ``len(self) - 1``.

        Returns
        -------
        numpy.ndarray of int64, shape (n,)
        """
        run = np.searchsorted(self.ends, indices, side="right")
        before: Indices = np.append(0, self.ends)  # images of the runs before each
        numbers: Indices = self.starts[run] + indices - before[run]
        return numbers


class StoredScores:
    """Scores of a store's images, read chunk by chunk when indexed.

    ``scores[index]`` is what it would be of an array of shape (n_images, n_components), for an
    int, a slice, or a vector of ints or bools.

    Parameters
    ----------
    read : callable
        Takes the first image of the store and the first no more; returns their scores.
    images : StoredImages
        Which of the store's images these are.
    chunk_images : int
        Images of a chunk; a chunk is read once for each index.
    n_components : int
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(
        self,
        read: Callable[[int, int], NDArray[np.float32]],
        images: StoredImages,
        *,
        chunk_images: int,
        n_components: int,
    ) -> None:
        self.shape = (len(images), n_components)
        self._read = read
        self._images = images
        self._chunk_images = chunk_images

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Any:
        """Read scores.

        Parameters
        ----------
        index : int, slice, or int or bool array of one dimension

        Returns
        -------
        numpy.ndarray of float32, shape (n_selected, n_components)
            Of shape (n_components,) for an int.

        Raises
        ------
        InvalidIndexError
            If the index is out of bounds, or is another one.
        FileFormatError
            If a file is missing or damaged.
        """
        if isinstance(index, int | np.integer) and not isinstance(index, bool):
            return self[[int(index)]][0]
        return self._gather(self._images.numbers(_as_positions(index, len(self))))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("scores on disk become an array by a copy only")
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        return f"<StoredScores {self.shape[0]} images, {self.shape[1]} components>"

    def _gather(self, images: Indices) -> NDArray[np.float32]:
        out = np.empty((len(images), self.shape[1]), np.float32)
        order = np.argsort(images, kind="stable")
        ascending = images[order]
        for part in _by_chunk(ascending, self._chunk_images):
            first, last = ascending[part.start], ascending[part.stop - 1]
            scores = self._read(int(first), int(last) + 1)
            out[order[part]] = scores[ascending[part] - first]
        return out


class StoredNames(Sequence[str]):
    """Names of a store's images, read chunk by chunk when asked for.

    Parameters
    ----------
    read : callable
        Takes the number of a chunk, returns its images' names.
    images : StoredImages
        Which of the store's images these are.
    chunk_images : int
        Images of a chunk. The names of the chunk that was read last are kept.
    """

    def __init__(
        self, read: Callable[[int], list[str]], images: StoredImages, *, chunk_images: int
    ) -> None:
        self._read = read
        self._images = images
        self._chunk_images = chunk_images
        self._kept: tuple[int, list[str]] = (-1, [])

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(self._names(range(len(self))[index]))
        place = range(len(self))[index]
        return next(self._names(range(place, place + 1)))

    def __iter__(self) -> Iterator[str]:
        return self._names(range(len(self)))

    def __repr__(self) -> str:
        return f"<StoredNames of {len(self)} images>"

    def _names(self, indices: range) -> Iterator[str]:
        """Give the names of images in order, reading a chunk where the one before is left."""
        block = self._chunk_images
        kept_chunk, kept = self._kept
        for start in range(0, len(indices), block):
            part = indices[start : start + block]
            for image in self._images.numbers(np.arange(part.start, part.stop, part.step)):
                i_chunk, place = divmod(int(image), block)
                if kept_chunk != i_chunk:
                    kept_chunk, kept = self._kept = (i_chunk, self._read(i_chunk))
                yield kept[place]


def _as_positions(index: Any, n: int) -> Indices:
    """Return the positions from 0 to n - 1 that an index means, as NumPy takes it."""
    if isinstance(index, slice):
        return np.arange(*index.indices(n))
    positions = np.asarray(index)
    if positions.ndim == 1 and not positions.size:
        return np.empty(0, np.int64)
    if positions.ndim != 1 or positions.dtype.kind not in "biu":
        raise InvalidIndexError(
            "images are not selected by this",
            got=repr(index)[:200],
            accepted="an int, a slice, or a vector of ints or bools",
        )
    if positions.dtype.kind == "b":
        if len(positions) != n:
            raise InvalidIndexError(
                "the mask is of another number of images",
                got=f"{len(positions)} entries",
                accepted=f"{n}, one an image",
            )
        return np.flatnonzero(positions)
    positions = positions.astype(np.int64)
    if positions.min() < -n or positions.max() >= n:
        raise InvalidIndexError(
            "an image is out of bounds",
            got=f"{positions.min()} to {positions.max()}",
            accepted=f"{-n} to {n - 1}" if n else "none: there are no images",
        )
    return np.where(positions < 0, positions + n, positions)


def _by_chunk(ascending: Indices, chunk_images: int) -> Iterator[slice]:
    """Give the slices of ascending images that lie in one chunk each."""
    borders = np.flatnonzero(np.diff(ascending // chunk_images)) + 1
    edges = [0, *borders.tolist(), len(ascending)]
    for start, stop in pairwise(edges):
        if start < stop:
            yield slice(start, stop)
