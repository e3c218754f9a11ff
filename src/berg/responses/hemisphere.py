"""The responses of one hemisphere as an array that is computed where it is looked at."""

from __future__ import annotations

from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from berg.errors import InvalidIndexError
from berg.responses.memory import allocate
from berg.responses.rows import Rows, Scores, block_size, check_rows, in_bounds, read_rows

# Vertices and images that are computed together: their product, 4 MB, stays in the processor's
# cache until the intercept is added.
_VERTEX_BLOCK, _IMAGE_BLOCK = 2048, 512

# Pairs of image and vertex that are computed together: 64 MB of coefficients.
_PAIR_BLOCK = 2**16

_AXES = ("images", "vertices")
_TOO_MANY = "select images first: responses[:100], or vertices: responses.roi(...)"

Index = int | slice | NDArray[Any]


class HemisphereResponses:
    """Responses of a hemisphere's vertices to images: a lazy two-dimensional array.

    Indexing it gives a NumPy array, with NumPy's meaning of slices, ints, arrays of ints and
    bools and ``np.ix_``; only what is indexed is computed.

    Parameters
    ----------
    scores : numpy.ndarray or LazyScores of float32, shape (n_images, n_components)
    coef : numpy.ndarray of float32, shape (n_vertices, n_components)
    intercept : numpy.ndarray of float32, shape (n_vertices,)
        In z-scored units.

    Examples
    --------
    >>> scores = np.array([[1, 2], [3, 4]], np.float32)
    >>> coef = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    >>> lh = HemisphereResponses(scores, coef, np.array([0, 0, 10], np.float32))
    >>> lh
    <HemisphereResponses 2 images, 3 vertices>
    >>> lh[:, 2]
    array([13., 17.], dtype=float32)
    """

    ndim = 2
    dtype: np.dtype[np.float32] = np.dtype(np.float32)

    def __init__(
        self, scores: Scores, coef: NDArray[np.float32], intercept: NDArray[np.float32]
    ) -> None:
        self._scores = scores
        self._coef = coef
        self._intercept = intercept

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_images, n_vertices)``."""
        return self._scores.shape[0], len(self._coef)

    @property
    def size(self) -> int:
        """Number of responses."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that the responses would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Compute the responses that are indexed.

        Parameters
        ----------
        key : int, slice, array of int or bool, Ellipsis, or a tuple of them
            As NumPy takes it; no new axes.

        Returns
        -------
        numpy.ndarray of float32, or numpy.float32 for a single response
            In z-scored units.

        Raises
        ------
        InvalidIndexError
            If an index is out of bounds or not accepted.
        ResourceError
            If the responses do not fit into memory.
        """
        rows, columns = _two_indices(key, self.shape)
        dropped = tuple(
            axis for axis, index in enumerate((rows, columns)) if isinstance(index, int)
        )
        arrays = [index for index in (rows, columns) if isinstance(index, np.ndarray)]
        if len(arrays) + len(dropped) < 2 or not arrays:
            return self._cross(rows, columns, dropped)
        return self._broadcast(np.asarray(rows), np.asarray(columns))

    def _cross(self, rows: Index, columns: Index, dropped: tuple[int, ...]) -> Any:
        """Compute every row with every column; arrays put their shapes in place of an axis."""
        outer = self._outer(
            *(
                check_rows(index.ravel() if isinstance(index, np.ndarray) else index, n, axis)
                for index, n, axis in zip((rows, columns), self.shape, _AXES, strict=True)
            )
        )
        shape: list[int] = []
        for axis, index in enumerate((rows, columns)):
            if isinstance(index, np.ndarray):
                shape += index.shape
            elif axis not in dropped:
                shape.append(outer.shape[axis])
        return outer.reshape(shape)[()]

    def _broadcast(self, rows: NDArray[Any], columns: NDArray[Any]) -> Any:
        """Compute a row and a column for each element, as two arrays of indices mean it."""
        try:
            shape = np.broadcast_shapes(rows.shape, columns.shape)
        except ValueError as err:
            raise InvalidIndexError(
                "the indices of images and vertices have shapes that do not fit together",
                got=f"shapes {rows.shape} and {columns.shape}",
                accepted="shapes that broadcast: the arrays are paired, element by element",
                do="for every image with every vertex: [np.ix_(images, vertices)]",
            ) from err
        rows, columns = (
            in_bounds(*each) for each in zip((rows, columns), self.shape, _AXES, strict=True)
        )
        if _is_cross(rows.shape, columns.shape):
            return self._outer(rows.ravel(), columns.ravel()).reshape(shape)[()]
        paired_rows, paired_columns = (
            np.broadcast_to(index, shape).ravel() for index in (rows, columns)
        )
        return self._pairs(paired_rows, paired_columns).reshape(shape)[()]

    def _outer(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        out = self._allocate(len(rows), len(columns))
        self.compute_into(out, rows, columns)
        return out

    def _pairs(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        out = self._allocate(len(rows))
        for start in range(0, len(rows), _PAIR_BLOCK):
            part = slice(start, start + _PAIR_BLOCK)
            scores, coef = read_rows(self._scores, rows[part]), self._coef[columns[part]]
            out[part] = np.einsum("pk,pk->p", scores, coef) + self._intercept[columns[part]]
        return out

    def compute_into(
        self, out: NDArray[np.float32], rows: Rows | None = None, columns: Rows | None = None
    ) -> None:
        """Compute responses into the caller's array.

        Parameters
        ----------
        out : numpy.ndarray of float32, shape (n_rows, n_columns)
            Overwritten with responses in z-scored units.
        rows, columns : range or numpy.ndarray of int64, optional
            The images and vertices; all by default.
        """
        rows = range(self.shape[0]) if rows is None else rows
        coef, intercept = self._coef, self._intercept
        if isinstance(columns, range):
            taken: slice | NDArray[np.int64] = np.arange(columns.start, columns.stop, columns.step)
            if columns.step == 1:
                taken = slice(columns.start, columns.stop)
            coef, intercept = coef[taken], intercept[taken]
        elif columns is not None:
            coef, intercept = coef[columns], intercept[columns]
        size = block_size(self._scores.shape[1])
        for read in range(0, len(rows), size):
            scores = read_rows(self._scores, rows[read : read + size])
            for image in range(0, len(scores), _IMAGE_BLOCK):
                images = slice(image, image + _IMAGE_BLOCK)
                into = out[read + image : read + image + _IMAGE_BLOCK]
                for vertex in range(0, len(coef), _VERTEX_BLOCK):
                    part = slice(vertex, vertex + _VERTEX_BLOCK)
                    np.add(scores[images] @ coef[part].T, intercept[part], out=into[:, part])

    def _allocate(self, *shape: int) -> NDArray[np.float32]:
        what = f"{' × '.join(map(str, shape))} responses"
        array: NDArray[np.float32] = allocate(shape, self.dtype, what, _TOO_MANY)
        return array

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("lazy responses are computed: they cannot be had without a copy")
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<HemisphereResponses {self.shape[0]} images, {self.shape[1]} vertices>"


def _is_cross(rows: tuple[int, ...], columns: tuple[int, ...]) -> bool:
    """Whether arrays of these shapes pair every row with every column, the rows first."""
    ndim = max(len(rows), len(columns))
    rows, columns = ((1,) * (ndim - len(shape)) + shape for shape in (rows, columns))
    last_of_rows = max((axis for axis in range(ndim) if rows[axis] != 1), default=-1)
    first_of_columns = min((axis for axis in range(ndim) if columns[axis] != 1), default=ndim)
    return last_of_rows < first_of_columns


def _two_indices(key: Any, shape: tuple[int, int]) -> tuple[Index, Index]:
    """Return an index of images and one of vertices; refuse what is not one."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if len(parts) == 1 and _is_mask(parts[0], shape):
        return np.nonzero(parts[0])  # type: ignore[return-value] # two arrays: it has two axes
    n_ellipses = sum(isinstance(part, EllipsisType) for part in parts)
    if n_ellipses > 1 or len(parts) - n_ellipses > 2:
        raise InvalidIndexError(
            "too many indices: responses have two dimensions",
            got=f"{len(parts)} indices",
            accepted="[images] or [images, vertices], with one ... at most",
        )
    if n_ellipses:
        at = next(i for i, part in enumerate(parts) if isinstance(part, EllipsisType))
        parts[at : at + 1] = [slice(None)] * (2 - len(parts) + 1)
    parts += [slice(None)] * (2 - len(parts))
    rows, columns = (
        _index(part, n, axis) for part, n, axis in zip(parts, shape, _AXES, strict=True)
    )
    return rows, columns


def _is_mask(part: Any, shape: tuple[int, int]) -> bool:
    if not isinstance(part, list | np.ndarray):
        return False
    mask = np.asarray(part)
    if mask.dtype.kind != "b" or mask.ndim != 2:
        return False
    if mask.shape != shape:
        raise InvalidIndexError(
            "a mask of responses has another shape than they",
            got=f"shape {mask.shape}",
            accepted=f"shape {shape}, (n_images, n_vertices)",
        )
    return True


def _index(part: Any, n: int, axis: str) -> Index:
    if isinstance(part, slice):
        return part
    if part is None:
        raise InvalidIndexError(
            "lazy responses take no new axes",
            got="None (numpy.newaxis) in an index",
            accepted="slices, ints, arrays of ints or bools",
            do="compute them first: responses.lh[:][:, np.newaxis]",
        )
    index = np.asarray(part)
    if index.size == 0 and index.dtype.kind == "f" and isinstance(part, list):
        index = index.astype(np.int64)
    if index.dtype.kind == "b" and index.shape == (n,):
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu":
        raise InvalidIndexError(
            f"this is no index of {axis}",
            got=f"{type(part).__name__}: {part!r}"[:200],
            accepted=f"a slice, an int, an array of ints, or a mask of {n} bools",
        )
    return index if index.ndim else int(index)
