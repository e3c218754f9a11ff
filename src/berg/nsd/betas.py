"""Single-trial responses (betas): MGH files of one session and hemisphere, 492 MB each.

The readers here are our own and not nibabel's: a block of trials at a time goes from the file
into the caller's array in native byte order, so that no more than a block is in memory twice.
nibabel reads the whole file, in the file's byte order.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from berg.errors import FileFormatError, InvalidParameterError
from berg.nsd.missing import ACCESS, GET_AGAIN, check_is_file

Float32s = npt.NDArray[np.float32]

# https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat: seven big-endian int32
# (version, width, height, depth, frames, type, degrees of freedom), geometry, data at 284.
_HEADER_BYTES = 284
_HEADER = struct.Struct(">7i")
_VERSION = 1
_FLOAT32 = 3  # MRI_FLOAT
_STORED = np.dtype(">f4")
# Swapped while it is in the processor's cache: 1 MiB runs at 10 GB/s from the page cache, and a
# swap in place, which needs no block, at 3.6.
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class BetaFile:
    """Responses of one hemisphere in one session, left in their file.

    Parameters
    ----------
    path : Path
    n_vertices, n_trials : int
        As its header says; `open_betas` reads it.
    """

    path: Path
    n_vertices: int
    n_trials: int

    def read(self, out: Float32s | None = None, *, vertices: slice | None = None) -> Float32s:
        """Read all trials.

        Parameters
        ----------
        out : (n_trials, n_vertices) float32, optional
            Array to fill, in C order and native byte order. None makes one.
        vertices : slice, optional
            Read of each trial only these neighbouring vertices, as many as `out` then has. None
            reads all.

        Returns
        -------
        (n_trials, n_vertices) float32
            `out`. NaN is a response that does not exist.

        Raises
        ------
        FileFormatError
            If the file is no longer as it was when it was opened.
        InvalidParameterError
            If `out` cannot hold the trials.
        """
        start, stop, _ = (vertices or slice(None)).indices(self.n_vertices)
        shape = (self.n_trials, stop - start)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.carray:
            raise InvalidParameterError(
                "the array cannot hold the betas",
                got=f"{out.dtype} {out.shape}",
                accepted=f"float32 {shape}, writeable, in C order and native byte order",
            )
        with self._open() as file:
            if shape[1] == self.n_vertices:
                self._fill(file, 0, out)
            else:
                for trial, row in enumerate(out):
                    self._fill(file, trial * self.n_vertices + start, row)
        return out

    def read_trials(self, indices: npt.ArrayLike) -> Float32s:
        """Read some trials, and no others.

        Parameters
        ----------
        indices : (k,) int
            0-based, in any order.

        Returns
        -------
        (k, n_vertices) float32

        Raises
        ------
        FileFormatError
            If the file is no longer as it was when it was opened.
        InvalidParameterError
            If a trial is not in the file.
        """
        trials = np.asarray(indices, np.int64)
        if trials.size and not (trials.min() >= 0 and trials.max() < self.n_trials):
            raise InvalidParameterError(
                f"trials asked for are not in {self.path.name}",
                got=f"{trials.min()} to {trials.max()}",
                accepted=f"0 to {self.n_trials - 1}",
            )
        out = np.empty((len(trials), self.n_vertices), np.float32)
        with self._open() as file:
            for trial, row in zip(trials.tolist(), out, strict=True):
                self._fill(file, trial * self.n_vertices, row)
        return out

    @contextmanager
    def _open(self) -> Iterator[FileIO]:
        """Open the file, and raise at the end if it is not the one it was."""
        with _opened(self.path) as file:
            before = os.fstat(file.fileno())
            if _read_header(self.path, file) != self:
                raise self._changed("another header")
            yield file
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise self._changed("written to meanwhile")

    def _fill(self, file: FileIO, first: int, out: Float32s) -> None:
        """Fill an array with the numbers from the `first` of the file on."""
        file.seek(_HEADER_BYTES + first * _STORED.itemsize)
        flat = out.reshape(-1)
        block = np.empty(min(_BLOCK_BYTES // _STORED.itemsize, flat.size), _STORED)
        for start in range(0, flat.size, block.size):
            part = block[: flat.size - start]
            unread = part.view(np.uint8).data
            while unread:
                if not (n_read := file.readinto(unread)):
                    raise self._changed("it was cut off")
                unread = unread[n_read:]
            flat[start : start + part.size] = part

    def _changed(self, got: str) -> FileFormatError:
        return FileFormatError(
            f"{self.path} changed while it was read",
            got=got,
            accepted="the file as it was when it was opened",
            do="start again, once nothing writes to it any more",
        )


def open_betas(
    path: Path, *, n_trials: int | None = None, n_vertices: int | None = None
) -> BetaFile:
    """Check the header and the size of a file of betas; no data are read.

    Parameters
    ----------
    path : Path
        Uncompressed MGH of shape (n_vertices, 1, 1, n_trials), float32.
    n_trials, n_vertices : int, optional
        What it must hold. None takes what it has.

    Raises
    ------
    NSDFilesNotFoundError
        If the file does not exist.
    FileFormatError
        If it is not such a file, is truncated, or holds another number of trials or vertices.
    """
    check_is_file(path)
    with _opened(path) as file:
        betas = _read_header(path, file)
    for expected, found, what in (
        (n_trials, betas.n_trials, "trials"),
        (n_vertices, betas.n_vertices, "vertices"),
    ):
        if expected not in (None, found):
            raise FileFormatError(
                f"{path} has another number of {what} than the data it belongs to",
                got=f"{found:,} {what}",
                accepted=f"{expected:,}",
                do=ACCESS,
            )
    return betas


def _opened(path: Path) -> FileIO:
    try:
        return FileIO(path)  # unbuffered: blocks are read straight to where they belong
    except OSError as err:
        raise _unfit(path, str(err), "a file that can be read") from err


def _read_header(path: Path, file: FileIO) -> BetaFile:
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise _unfit(path, f"{len(header)} bytes", f"a header of {_HEADER_BYTES}")
    version, width, height, depth, n_trials, number_type, _ = _HEADER.unpack_from(header)
    if version == int.from_bytes(_VERSION.to_bytes(4, "little"), "big"):
        raise _unfit(path, "little-endian numbers", "big-endian ones, as MGH has them")
    if version != _VERSION:
        raise _unfit(path, f"version {version}", f"version {_VERSION} of the format")
    if number_type != _FLOAT32:
        raise _unfit(path, f"numbers of type {number_type}", f"type {_FLOAT32}, float32")
    if min(width, n_trials) < 1 or (height, depth) != (1, 1):
        raise _unfit(
            path, f"shape {(width, height, depth, n_trials)}", "shape (n_vertices, 1, 1, n_trials)"
        )
    expected = _HEADER_BYTES + width * n_trials * _STORED.itemsize
    size = os.fstat(file.fileno()).st_size
    if size >= expected + width * _STORED.itemsize:
        raise _unfit(
            path,
            f"{size:,} bytes: more trials than its header says",
            f"{expected:,} bytes, for {n_trials} trials of {width:,} vertices, and a short footer",
        )
    if size < expected:  # a little more is a footer, which the format allows
        raise _unfit(
            path,
            f"{size:,} bytes: it is truncated",
            f"{expected:,} bytes, for {n_trials} trials of {width:,} vertices",
        )
    return BetaFile(path, width, n_trials)


def _unfit(path: Path, got: str, accepted: str) -> FileFormatError:
    return FileFormatError(
        f"{path} is not a file of betas (MGH)", got=got, accepted=accepted, do=GET_AGAIN
    )
