"""An array that is still in its file: where it lies, and reading only what is asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from berg.errors import FileFormatError, InvalidParameterError

BLOCK_BYTES = 2**21  # read at once: stays in the processor's cache
GAP_BYTES = 2**15  # skipped rather than read: 32 KB take as long as one more call

FileVersion = tuple[int, int, int, int]


def file_version(file: BinaryIO | FileIO) -> FileVersion:
    """Return what tells an open file from the one that is put in its place, or written over it."""
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


@dataclass(frozen=True)
class StoredArray:
    """An array left in its file.

    Parameters
    ----------
    path : Path
    version : tuple of int
        The `file_version` of the file in which the array was found.
    offset : int
        Of the first byte of the data.
    shape : tuple of int
    dtype : numpy.dtype
        As stored, byte order included.
    fortran_order : bool
        Whether the first axis varies fastest.
    """

    path: Path
    version: FileVersion
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool = False

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Shape in the order of the file: a Fortran array is its own transpose in C order."""
        return self.shape[::-1] if self.fortran_order else self.shape

    def blocks(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Go through the array in the order of the file, a few MB at a time.

        Yields
        ------
        index : tuple of slice
            Where the block belongs: ``whole[index] = block``.
        block : array of the shape of ``whole[index]``
            In the stored dtype. Its memory is used again for the next block.

        Raises
        ------
        FileFormatError
            If the file is no longer the one in which the array was found.
        """
        n_rows, *row_shape = self.file_shape
        row_bytes = math.prod(row_shape) * self.dtype.itemsize
        step = max(1, BLOCK_BYTES // max(1, row_bytes))
        buffer = np.empty((min(step, n_rows), *row_shape), self.dtype)
        others = (slice(None),) * len(row_shape)
        with self._open() as file:
            file.seek(self.offset)
            for start in range(0, n_rows, step):
                rows = slice(start, min(start + step, n_rows))
                block = buffer[: rows.stop - start]
                self._fill(file, block)
                yield ((*others, rows), block.T) if self.fortran_order else ((rows, *others), block)

    def read(
        self, rows: NDArray[np.integer[Any]] | None = None, dtype: DTypeLike | None = None
    ) -> NDArray[Any]:
        """Read the array, or rows of it, and no more than that into memory.

        Parameters
        ----------
        rows : int array of shape (n_rows,), optional
            Indices on the first axis, in any order. None reads all.
        dtype : dtype, optional
            What to convert to on the way. None keeps the stored one.

        Returns
        -------
        array of shape (n_rows, ...)
            In native byte order; in Fortran order if the file is.

        Raises
        ------
        FileFormatError
            If the file is no longer the one in which the array was found.
        InvalidParameterError
            If a row is not in the array.
        """
        native = np.dtype(self.dtype if dtype is None else dtype).newbyteorder("=")
        if rows is None:
            return self._read_all(native)
        _check_rows(rows, self.shape[0])
        out = self._read_rows(np.asarray(rows, np.int64), native)
        return out.T if self.fortran_order else out

    def _read_all(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        if not self.shape:
            return replace(self, shape=(1,))._read_all(dtype).reshape(())
        out = np.empty(self.shape, dtype, order="F" if self.fortran_order else "C")
        if dtype == self.dtype:
            with self._open() as file:
                file.seek(self.offset)
                self._fill(file, out.T if self.fortran_order else out)
        else:
            for index, block in self.blocks():
                out[index] = block
        return out

    def _read_rows(self, rows: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read rows of the first axis of `shape`, in the axis order of the file."""
        wanted, inverse = np.unique(rows, return_inverse=True)
        # In C order the array is one line of rows; in Fortran order it is many lines (one for
        # each position on the other axes) in which a row is a single number.
        lines = self.file_shape[:-1] if self.fortran_order else ()
        item = () if self.fortran_order else self.shape[1:]
        item_bytes = math.prod(item) * self.dtype.itemsize
        out = np.empty((math.prod(lines), len(wanted), *item), dtype)
        spans = _spans(wanted, item_bytes)
        longest = max(
            (int(wanted[stop - 1] - wanted[start]) + 1 for start, stop in spans), default=0
        )
        buffer = np.empty((longest, *item), self.dtype)
        with self._open() as file:
            for i_line in range(len(out)):
                line_offset = self.offset + i_line * self.shape[0] * item_bytes
                for start, stop in spans:
                    first = int(wanted[start])
                    span = buffer[: int(wanted[stop - 1]) - first + 1]
                    file.seek(line_offset + first * item_bytes)
                    self._fill(file, span)
                    out[i_line, start:stop] = span[wanted[start:stop] - first]
        if not np.array_equal(wanted, rows):
            out = out[:, inverse]
        return out.reshape(*lines, len(rows), *item)

    def _open(self) -> FileIO:
        # Unbuffered: everything is read straight to where it belongs.
        try:
            file = FileIO(self.path)
        except FileNotFoundError as err:
            raise self._changed("it is there no more") from err
        if (version := file_version(file)) != self.version:
            file.close()
            raise self._changed(f"{version[2]:,} bytes, where there were {self.version[2]:,}")
        return file

    def _changed(self, got: str) -> FileFormatError:
        # An offset into another file would give numbers that look right and are not.
        return FileFormatError(
            f"{self.path} changed while it was read",
            got=got,
            accepted="the file as it was when it was opened",
            do="load it again, once nothing writes to it any more",
        )

    def _fill(self, file: FileIO, out: NDArray[Any]) -> None:
        """Read `out`, which is contiguous, from where the file stands."""
        unread = out.reshape(-1).view(np.uint8).data if out.nbytes else memoryview(b"")
        while unread:
            n_read = file.readinto(unread)
            if not n_read:
                raise self._changed("it was cut off")
            unread = unread[n_read:]


def _spans(rows: NDArray[np.int64], row_bytes: int) -> list[tuple[int, int]]:
    """Cut sorted rows into (start, stop) ranges of neighbours that are read in one go."""
    if not rows.size:
        return []
    far = np.diff(rows) * row_bytes > GAP_BYTES
    # A new span also begins wherever rows pass into the next BLOCK_BYTES of the line.
    next_block = np.diff(rows * row_bytes // BLOCK_BYTES) > 0
    cuts = (np.flatnonzero(far | next_block) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(rows)], strict=True))


def _check_rows(rows: NDArray[np.integer[Any]], n_rows: int) -> None:
    if len(rows) and not (rows.min() >= 0 and rows.max() < n_rows):
        raise InvalidParameterError(
            "rows asked for are not in the array",
            got=f"{rows.min()} to {rows.max()}",
            accepted=f"0 to {n_rows - 1}",
        )


def read_array(
    array: StoredArray | NDArray[Any],
    rows: NDArray[np.integer[Any]] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Read an array that may be in its file or in memory already (see `StoredArray.read`)."""
    if isinstance(array, StoredArray):
        return array.read(rows, dtype)
    native = np.dtype(array.dtype if dtype is None else dtype).newbyteorder("=")
    if rows is None:
        return array.astype(native, copy=False)
    _check_rows(rows, len(array))
    selected: NDArray[Any] = array[rows]
    return selected.astype(native, copy=False)


def read_blocks(
    array: StoredArray | NDArray[Any],
) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    """Go through an array that may be in its file or in memory (see `StoredArray.blocks`)."""
    if isinstance(array, StoredArray):
        yield from array.blocks()
    else:
        yield (slice(None),) * array.ndim, array
