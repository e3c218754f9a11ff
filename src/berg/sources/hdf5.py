"""Images in datasets of HDF5 files, laid out as NSD's or as arrays of images."""

from __future__ import annotations

import math
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from berg.errors import ImageFileError, MissingExtraError, did_you_mean, warn
from berg.sources.collection import ArrayPart, Container
from berg.sources.photos import SKIP, SKIP_OR_REPLACE, central_square
from berg.stimuli import NETWORK_SIDE

if TYPE_CHECKING:
    import h5py

_Datasets = dict[str, tuple[tuple[int, ...], np.dtype]]  # shape and dtype, by path

_NAMED = re.compile(r"(?P<path>.+\.(?:hdf5|h5|hdf))(?::(?P<dataset>.+))?", re.I | re.S)
# What h5py raises for files that are damaged, by what part of them is.
_H5PY_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
_ACCEPTED = (
    "a dataset of integers of shape (n_images, height, width, 3) or (n_images, 3, height, width)"
)
_ROWS_AT_ONCE = 16  # 9 MB of 425×425 pixels; one by one takes twice as long a row
_MOST_BYTES = 128_000_000  # of rows that are read together because they are compressed together


def split_name(source: str) -> tuple[str, str | None] | None:
    """Split ``file.hdf5:dataset`` at the colon.

    Parameters
    ----------
    source : str

    Returns
    -------
    tuple of (str, str or None) or None
        Path and dataset, which is None if only a file is named; None for other suffixes.

    Examples
    --------
    >>> split_name("stimuli/nsd_stimuli.hdf5:imgBrick")
    ('stimuli/nsd_stimuli.hdf5', 'imgBrick')
    >>> split_name("images.h5")
    ('images.h5', None)
    >>> split_name("cat.jpg")
    """
    match = _NAMED.fullmatch(source)
    return (match["path"], match["dataset"]) if match else None


def find_rows(container: Container, dataset: str | None) -> ArrayPart:
    """Look up a dataset of images, and count them. Pixels are not read.

    Parameters
    ----------
    container : Container
    dataset : str or None
        Its path in the file. None if the file holds one dataset of images only.

    Returns
    -------
    ArrayPart

    Raises
    ------
    ImageFileError
        If the file cannot be read, or the dataset does not hold RGB images.
    MissingExtraError
        If h5py is not installed.

    Warns
    -----
    BERGWarning
        If the images are smaller than the network's input.
    """
    with ExitStack() as opening:
        try:
            file = opening.enter_context(_open(container.path))
            datasets = _datasets(file)
            if dataset is None:
                dataset = _only_one(container.name, datasets)
            found = file.get(dataset)
            shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
        except _H5PY_ERRORS as error:
            if isinstance(error, ImageFileError):
                raise
            raise ImageFileError(
                f"{container.name} cannot be read as an HDF5 file",
                got=f"{type(error).__name__}: {error}",
                accepted="a whole HDF5 file that no other program is writing",
                do="get it from its source again",
            ) from error
    name = f"{container.name}:{dataset}"
    if shape is None or dtype is None:
        what = (
            "there is no dataset" if found is None else "there is something else than an array at"
        )
        raise ImageFileError(
            f"{what} {dataset!r} in {container.name}.{did_you_mean(dataset, datasets)}",
            got=_listed(datasets),
            accepted=_ACCEPTED,
            do=_how_to_name(container.name, _fitting(datasets)),
        )
    if not _holds_images(shape, dtype):
        raise ImageFileError(
            f"{name} does not hold RGB images",
            got=f"a dataset of shape {shape}, {dtype}",
            accepted=f"{_ACCEPTED}, with values in 0-255",
            do="name another dataset, or write the images anew",
        )
    side = min(shape[1:3] if _channels_last(shape) else shape[2:])
    if side < NETWORK_SIDE:
        warn(
            f"the images of {name} are {side}×{side} pixels and will be enlarged: the model card "
            f"recommends at least {NETWORK_SIDE}×{NETWORK_SIDE}"
        )
    return ArrayPart(container, dataset, shape[0])


class OpenDataset:
    """A dataset of images, open for reading rows. h5py lets one thread read at a time.

    Parameters
    ----------
    path : str
    dataset : str
    """

    def __init__(self, path: str, dataset: str) -> None:
        self._file = _open(path)
        self._rows = self._file[dataset]
        self._channels_last = _channels_last(self._rows.shape)
        # Rows of one compressed chunk are read together, or it is decompressed for each.
        in_chunk = self._rows.chunks[0] if self._rows.chunks else 1
        row_bytes = self._rows.dtype.itemsize * math.prod(self._rows.shape[1:])
        self.rows_at_once = max(_ROWS_AT_ONCE, min(in_chunk, _MOST_BYTES // row_bytes))

    def read(self, start: int, stop: int, name: str) -> tuple[NDArray[np.uint8], bool]:
        """Read rows from `start` up to `stop`.

        Parameters
        ----------
        start, stop : int
        name : str
            Of the first, named in messages.

        Returns
        -------
        pixels : numpy.ndarray of uint8, shape (n_rows, 3, side, side)
        cropped : bool
            Whether the images were cut to their central squares.

        Raises
        ------
        ImageFileError
            If the rows cannot be read, or hold values outside 0-255.
        """
        rows = np.empty((stop - start, *self._rows.shape[1:]), self._rows.dtype)
        try:
            self._rows.read_direct(rows, np.s_[start:stop])
        except _H5PY_ERRORS as error:
            raise ImageFileError(
                f"{name} cannot be read",
                got=f"{type(error).__name__}: {error}",
                accepted="images that can be read",
                do=f"{SKIP}; or get the file from its source again and start anew",
            ) from error
        if rows.dtype != np.uint8 and rows.size and (rows.min() < 0 or rows.max() > 255):
            raise ImageFileError(
                f"{name} has values outside 0-255",
                got=f"values from {rows.min()} to {rows.max()}, {rows.dtype}",
                accepted="8-bit images",
                do=SKIP_OR_REPLACE,
            )
        square = central_square(rows if self._channels_last else np.moveaxis(rows, 1, -1))
        pixels = np.empty((len(square), 3, *square.shape[1:3]), np.uint8)
        np.copyto(pixels, np.moveaxis(square, -1, 1), casting="unsafe")
        return pixels, square.size != rows.size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _open(path: str) -> h5py.File:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "images in HDF5 files are read with h5py, which is not installed",
            got=f"{path}, and no h5py",
            do='pip install "berg[scale]"',
        ) from error
    return h5py.File(path, "r")


def _datasets(file: h5py.File) -> _Datasets:
    """Return shape and dtype of the file's datasets, by their paths."""
    found: _Datasets = {}

    def note(path: str, entry: object) -> None:
        shape, dtype = getattr(entry, "shape", None), getattr(entry, "dtype", None)
        if shape is not None and dtype is not None:
            found[path] = shape, dtype

    file.visititems(note)
    return found


def _only_one(name: str, datasets: _Datasets) -> str:
    fit = _fitting(datasets)
    if len(fit) == 1:
        return next(iter(fit))
    raise ImageFileError(
        f"{name} holds {'several datasets' if fit else 'no dataset'} of images",
        got=_listed(fit or datasets),
        accepted=_ACCEPTED,
        do=_how_to_name(name, fit),
    )


def _fitting(datasets: _Datasets) -> _Datasets:
    return {path: found for path, found in datasets.items() if _holds_images(*found)}


def _how_to_name(name: str, fitting: _Datasets) -> str:
    if not fitting:
        return "write the images into a dataset of this shape"
    return f"name the dataset after a colon: {name}:{next(iter(fitting))}"


def _listed(datasets: _Datasets) -> str:
    shown = [f"{path} {shape} {dtype}" for path, (shape, dtype) in [*datasets.items()][:12]]
    more = f" and {len(datasets) - 12} more" if len(datasets) > 12 else ""
    return f"datasets {'; '.join(shown)}{more}" if shown else "no dataset"


def _holds_images(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    rgb = len(shape) == 4 and 3 in (shape[1], shape[3]) and min(shape[1:]) > 0
    return rgb and dtype.kind in "iu"


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[3] == 3
