"""Scores of many images, in memory or in a store, and the rows of them that are selected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidIndexError, InvalidParameterError, InvalidParameterTypeError

# What is read at once, and images in a multiple of it: stores keep 1024 images a chunk, and a
# chunk is read whole or not at all.
_BLOCK_BYTES, _CHUNK = 64 * 2**20, 1024

# A range where the rows are evenly spaced: it takes no memory, however many there are.
Rows = range | NDArray[np.int64]


class LazyScores(Protocol):
    """Scores that are read as they are asked for, as those of a store."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_images, n_components)``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """Read the rows of a slice with step 1, or of an ascending array of int64."""


Scores = NDArray[np.float32] | LazyScores


def check_scores(scores: object) -> Scores:
    """Return scores that an image's responses can be computed from.

    Parameters
    ----------
    scores : numpy.ndarray of float, or `LazyScores`, shape (n_images, n_components)

    Returns
    -------
    numpy.ndarray or `LazyScores`
        An array as a read-only view, of float32.

    Raises
    ------
    InvalidParameterTypeError
        If it is neither, or does not hold floating point numbers.
    InvalidParameterError
        If it has not two dimensions.
    """
    if isinstance(scores, list | tuple) or not hasattr(scores, "__getitem__"):
        raise _not_scores(scores, f"{type(scores).__name__}: {scores!r}"[:200])
    shape, dtype = getattr(scores, "shape", None), getattr(scores, "dtype", None)
    if shape is None or np.dtype(dtype).kind != "f":
        raise _not_scores(scores, f"{type(scores).__name__} of dtype {dtype}")
    if len(shape) != 2:
        raise InvalidParameterError(
            f"scores have {len(shape)} dimensions, not 2",
            got=f"shape {shape}",
            accepted="shape (n_images, n_components)",
            do="for a single image: scores[np.newaxis]",
        )
    if not isinstance(scores, np.ndarray):
        return scores  # type: ignore[return-value] # it has all that the protocol asks for
    view = scores.astype(np.float32, copy=False).view()
    view.flags.writeable = False
    return view


def _not_scores(scores: object, got: str) -> InvalidParameterTypeError:
    return InvalidParameterTypeError(
        "scores are not an array of floating point numbers",
        got=got,
        accepted="a float32 array of shape (n_images, n_components), or a store's scores",
        do="model.encode_lazily(stimulus) and berg.open_store(path) give responses with scores",
    )


class SelectedScores:
    """Some rows of lazy scores, themselves lazy.

    Parameters
    ----------
    scores : LazyScores
    rows : range or numpy.ndarray of int64
        In any order, also more than once.
    """

    def __init__(self, scores: LazyScores, rows: Rows) -> None:
        self._scores = scores
        self._rows = rows

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_images, n_components)``."""
        return len(self._rows), self._scores.shape[1]

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows: a slice or an int array, in any order."""
        return read_rows(self._scores, pick(self._rows, check_rows(rows, len(self), "images")))

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


def select_rows(scores: Scores, rows: Rows) -> Scores:
    """Return some rows of scores: of an array at once, of lazy scores lazily."""
    if isinstance(scores, np.ndarray):
        return scores[_slice_of(rows)] if isinstance(rows, range) else scores[rows]
    if isinstance(scores, SelectedScores):
        return SelectedScores(scores._scores, pick(scores._rows, rows))
    return SelectedScores(scores, rows)


@overload
def pick(rows: range, key: slice | range) -> range: ...
@overload
def pick(rows: Rows, key: slice | Rows) -> Rows: ...
def pick(rows: Rows, key: slice | Rows) -> Rows:
    """Return the rows that a selection of them stands for."""
    if isinstance(key, range):
        key = _slice_of(key)
    if isinstance(rows, np.ndarray):
        return rows[key]
    if isinstance(key, slice):
        return rows[key]
    picked: NDArray[np.int64] = rows.start + rows.step * np.asarray(key, np.int64)
    return picked


def _slice_of(rows: range) -> slice:
    if not rows:
        return slice(0, 0)
    stop = rows[-1] + (1 if rows.step > 0 else -1)
    return slice(rows[0], None if stop < 0 else stop, rows.step)


def read_rows(scores: Scores, rows: Rows) -> NDArray[np.float32]:
    """Read rows in any order, also repeated; lazy scores are asked in ascending order, once.

    Parameters
    ----------
    scores : numpy.ndarray or LazyScores
    rows : range or numpy.ndarray of int64
        Not negative.

    Returns
    -------
    numpy.ndarray of float32, shape (n_rows, n_components)
    """
    if not len(rows):
        return np.empty((0, scores.shape[1]), np.float32)
    if isinstance(scores, np.ndarray):
        return np.asarray(scores[_slice_of(rows) if isinstance(rows, range) else rows])
    if isinstance(rows, range) and rows.step == 1:
        return np.asarray(scores[rows.start : rows.stop], np.float32)
    ascending, places = np.unique(np.asarray(rows), return_inverse=True)
    if ascending[-1] - ascending[0] == len(ascending) - 1:
        read = scores[int(ascending[0]) : int(ascending[-1]) + 1]
    else:
        read = scores[ascending]
    return np.asarray(read, np.float32)[places]


def block_size(n_components: int) -> int:
    """Return how many images' scores are read at once: about 64 MB of them."""
    return max(_BLOCK_BYTES // (4 * max(n_components, 1)) // _CHUNK, 1) * _CHUNK


def blocks(scores: Scores) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read scores a block of images at a time.

    Parameters
    ----------
    scores : numpy.ndarray or LazyScores, shape (n_images, n_components)

    Yields
    ------
    start : int
        Row of the block's first image.
    block : numpy.ndarray of float32, shape (n_block, n_components)
    """
    n_images, n_components = scores.shape
    size = block_size(n_components)
    for start in range(0, n_images, size):
        yield start, read_rows(scores, range(start, min(start + size, n_images)))


def check_rows(rows: object, n_rows: int, what: str) -> Rows:
    """Return the rows that a slice, an int, or an array of ints or bools stands for.

    Parameters
    ----------
    rows : slice, int, or array-like of int or bool
        With NumPy's meaning: negative numbers count from the end.
    n_rows : int
        How many there are.
    what : str
        What they are, for messages: "images".

    Returns
    -------
    range or numpy.ndarray of int64

    Raises
    ------
    InvalidIndexError
        If it has another type or shape, or is out of bounds.
    """
    if isinstance(rows, slice):
        return range(n_rows)[_checked_slice(rows, what)]
    index = np.asarray(rows)
    if index.size == 0 and index.dtype.kind == "f":  # an empty list
        index = index.astype(np.int64)
    if index.dtype.kind == "b" and index.shape == (n_rows,):
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu" or index.ndim > 1:
        raise InvalidIndexError(
            f"this is no selection of {n_rows} {what}",
            got=f"array of shape {index.shape}, {index.dtype}"
            if index.ndim
            else f"{type(rows).__name__}: {rows!r}"[:200],
            accepted=f"a slice, an int, a list of ints, or a mask of {n_rows} bools",
            do=f"for the first ten {what}: [:10]",
        )
    return in_bounds(np.atleast_1d(index), n_rows, what)


def _checked_slice(rows: slice, what: str) -> slice:
    try:
        rows.indices(0)
    except (TypeError, ValueError) as err:
        raise InvalidIndexError(
            f"this is no slice of {what}", got=repr(rows), accepted=str(err)
        ) from err
    return rows


def in_bounds(index: NDArray[Any], n_rows: int, what: str) -> NDArray[np.int64]:
    """Return indices with negative ones counted from the end; refuse those out of bounds.

    Raises
    ------
    InvalidIndexError
        If one is out of bounds.
    """
    outside = (index < -n_rows) | (index >= n_rows)
    if outside.any():
        raise InvalidIndexError(
            f"an index of {what} is out of bounds",
            got=str(index[outside].flat[0]),
            accepted=f"{-n_rows} to {n_rows - 1}: there are {n_rows} {what}",
        )
    index = index.astype(np.int64, copy=False)
    return np.where(index < 0, index + n_rows, index)
