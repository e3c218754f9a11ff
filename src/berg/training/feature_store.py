"""Features of many images on disk: written image by image, read feature by feature.

A file is a header and then blocks of columns, one after the other, each of all images in C
order. Both directions are long sequential runs: a batch of 100 images is written in runs of
1.6 MB, and a block is read in one of at most 150 MB.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from berg.errors import FileFormatError, InvalidParameterError, ResourceError

Float32s = NDArray[np.float32]

_DTYPE = np.dtype("<f4")
_MAGIC = b"berg features 1\n"
_SIZES = struct.Struct("<QQQ")  # images, features, columns of a block
_HEADER_BYTES = 4096  # a page, so that blocks start on one
_BLOCK_BYTES = 150 * 10**6
_MAX_COLUMNS = 4096


class FeatureStore:
    """A matrix (n_images, n_features) of float32 in one file, from `create` or `open`.

    ``store[:, 4096:8192]`` reads some columns, ``store[10:20, :]`` some images. No more is
    read at a time than the result and one block; nothing is kept open.
    """

    def __init__(self, path: Path, n_images: int, n_features: int, width: int) -> None:
        self.path = path
        self._shape = (n_images, n_features)
        self._width = width
        self._is_missing: NDArray[np.bool_] = np.zeros(n_images, np.bool_)

    @classmethod
    def create(cls, path: str | os.PathLike[str], n_images: int, n_features: int) -> FeatureStore:
        """Make a store to write to, in place of any that is there, with all of its disk space.

        Until every image is written, it cannot be opened for reading.

        Parameters
        ----------
        path : path-like
            The file. Its folder exists.
        n_images, n_features : int

        Returns
        -------
        FeatureStore

        Raises
        ------
        InvalidParameterError
            If there are no features, or a negative number of images.
        ResourceError
            If the file cannot be written: no space, no permission.
        """
        if n_images < 0 or n_features < 1:
            raise InvalidParameterError(
                "not the size of a feature store", got=f"{n_images} x {n_features}"
            )
        per_column = _DTYPE.itemsize * max(n_images, 1)
        width = max(1, min(_BLOCK_BYTES // per_column, _MAX_COLUMNS, n_features))
        store = cls(Path(path), n_images, n_features, width)
        store._is_missing[:] = True
        with store._file("w+b") as file:
            _reserve(file, store._offset(n_features))
            if n_images == 0:
                store._finish(file)
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FeatureStore:
        """Open a store that is complete.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        FeatureStore

        Raises
        ------
        FileFormatError
            If the file is none, is not complete, or does not have the size that it states.
        ResourceError
            If it cannot be read.
        """
        path = Path(path)
        store = cls(path, 0, 1, 1)
        with store._file("rb") as file:
            header = file.read(_HEADER_BYTES)
            n_bytes = os.fstat(file.fileno()).st_size
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise FileFormatError(
                f"{path} is not a complete feature store",
                got=f"{n_bytes} bytes that start with {header[: len(_MAGIC)]!r}",
                accepted=f"a file that starts with {_MAGIC!r}, which is written last",
                do="delete it, and compute the features again",
            )
        store = cls(path, *_SIZES.unpack_from(header, len(_MAGIC)))
        n_images, n_features = store.shape
        if store._width < 1 or n_bytes != store._offset(n_features):
            raise FileFormatError(
                f"{path} does not have the size that it states",
                got=f"{n_bytes} bytes",
                accepted=f"{store._offset(n_features)}, for {n_images} x {n_features} features",
                do="delete it, and compute the features again",
            )
        return store

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images, number of features."""
        return self._shape

    def blocks(self) -> Iterator[slice]:
        """Give the slices of columns that lie together in the file, the quickest to read."""
        n_features = self.shape[1]
        for start in range(0, n_features, self._width):
            yield slice(start, min(start + self._width, n_features))

    def write(self, start: int, batch: Float32s) -> None:
        """Write the features of a batch of images; the last batch completes the file.

        Parameters
        ----------
        start : int
            Number of the first image.
        batch : (n_batch, n_features) float32

        Raises
        ------
        InvalidParameterError
            If the batch does not fit into the store, or the store is complete.
        ResourceError
            If the file cannot be written.
        """
        n_images, n_features = self.shape
        stop = start + len(batch)
        if batch.shape[1:] != (n_features,) or not 0 <= start <= stop <= n_images:
            raise InvalidParameterError(
                f"a batch does not fit into {self.path}",
                got=f"shape {batch.shape} from image {start}",
                accepted=f"(n, {n_features}), images 0 to {n_images - 1}",
            )
        if not self._is_missing.any():
            raise InvalidParameterError(f"{self.path} is complete", do="create it again")
        with self._file("r+b") as file:
            for block in self.blocks():
                columns = np.ascontiguousarray(batch[:, block], dtype=_DTYPE)
                file.seek(self._offset(block.start, start))
                _write_all(file, columns)
            self._is_missing[start:stop] = False
            if not self._is_missing.any():
                self._finish(file)

    def __getitem__(self, index: tuple[slice, slice]) -> Float32s:
        """Read features.

        Parameters
        ----------
        index : (slice, slice)
            Images and features, both without a step.

        Returns
        -------
        (n_selected_images, n_selected_features) float32
            In C order, and the caller's own.

        Raises
        ------
        InvalidParameterError
            If a slice has a step.
        FileFormatError
            If the file has become shorter.
        ResourceError
            If it cannot be read.
        """
        (top, bottom, *steps), (left, right, step) = (
            part.indices(size) for part, size in zip(index, self.shape, strict=True)
        )
        if {*steps, step} != {1}:
            raise InvalidParameterError(
                "features are read without gaps", got=str(index), accepted="slices without a step"
            )
        out = np.empty((max(bottom - top, 0), max(right - left, 0)), dtype=_DTYPE)
        with self._file("rb") as file:
            for block in self.blocks():
                first, last = max(block.start, left), min(block.stop, right)
                if first >= last or not len(out):
                    continue
                file.seek(self._offset(block.start, top))
                if last - first == block.stop - block.start == out.shape[1]:
                    self._read_all(file, out)
                    continue
                lines = np.empty((len(out), block.stop - block.start), dtype=_DTYPE)
                self._read_all(file, lines)
                place = np.s_[first - left : last - left]
                out[:, place] = lines[:, first - block.start : last - block.start]
        return out

    def read_rows(self, start: int, stop: int) -> Float32s:
        """Read all features of some images.

        Parameters
        ----------
        start, stop : int
            The first image, and the first one no more.

        Returns
        -------
        (stop - start, n_features) float32
        """
        return self[start:stop, :]

    def _offset(self, column: int, row: int = 0) -> int:
        """Position in the file of a row of the block that starts with a column."""
        n_images, n_features = self.shape
        width = min(self._width, n_features - column)
        return _HEADER_BYTES + _DTYPE.itemsize * (n_images * column + row * width)

    def _finish(self, file: FileIO) -> None:
        os.fsync(file.fileno())  # the header says that all the rest is there
        file.seek(0)
        header = _MAGIC + _SIZES.pack(*self.shape, self._width)
        file.write(header.ljust(_HEADER_BYTES, b"\0"))
        os.fsync(file.fileno())

    def _read_all(self, file: FileIO, out: Float32s) -> None:
        rest = out.reshape(-1).view(np.uint8).data  # a view, as `out` is in C order
        while rest:
            n_read = file.readinto(rest)
            if not n_read:
                raise FileFormatError(
                    f"{self.path} became shorter while it was read",
                    got=f"{len(rest)} bytes too few",
                    do="delete it, and compute the features again",
                )
            rest = rest[n_read:]

    @contextmanager
    def _file(self, mode: str) -> Iterator[FileIO]:
        try:
            with FileIO(self.path, mode.replace("b", "")) as file:
                yield file
        except OSError as err:
            raise ResourceError(
                f"{self.path} cannot be {'read' if mode == 'rb' else 'written'}",
                got=str(err),
                do="see that the disk has space, and that you may use the file",
            ) from err


def _reserve(file: FileIO, n_bytes: int) -> None:
    """Give a file its size, and where the system can, its disk space."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    else:
        file.truncate(n_bytes)


def _write_all(file: FileIO, values: Float32s) -> None:
    rest = values.reshape(-1).view(np.uint8).data
    while rest:
        rest = rest[file.write(rest) :]
