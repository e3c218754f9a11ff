"""Images in `.npy` files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from berg import stimuli
from berg.errors import ImageFileError, StimulusError
from berg.sources.collection import ArrayPart, Container
from berg.sources.open_files import PositionalFile, unavailable

SUFFIX = ".npy"


def find_rows(container: Container) -> ArrayPart:
    """Check a `.npy` file of images, all of it, and count them.

    Parameters
    ----------
    container : Container

    Returns
    -------
    ArrayPart

    Raises
    ------
    ImageFileError
        If the file cannot be read as an array.
    StimulusError
        If the array does not hold square RGB images.

    Warns
    -----
    BERGWarning
        If the images are smaller than the network's input.
    """
    try:
        array = stimuli.check_stimulus(_map(container.path, container.name))
    except StimulusError as error:
        if isinstance(error, ImageFileError):
            raise
        raise type(error)(f"{container.name}: {error}") from error
    return ArrayPart(container, None, len(array))


class OpenArray:
    """A `.npy` file of images, open for reading rows from several threads.

    Parameters
    ----------
    path : str
    name : str
        Named in messages.
    """

    rows_at_once = 16

    def __init__(self, path: str, name: str) -> None:
        array = _map(path, name)
        self._file = PositionalFile(path)
        # Read rather than mapped where that can be: mapped pages count as this process's memory,
        # which would seem to grow with the file, and a disk that fails would kill the process.
        self._mapped = None if array.flags.c_contiguous else array
        self._offset = int(getattr(array, "offset", 0))
        self._dtype = array.dtype
        self._shape = array.shape

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
            False: the images are square.

        Raises
        ------
        ResourceError
            If the file ends before them, or the disk fails.
        """
        if self._mapped is not None:
            return np.array(self._mapped[start:stop], np.uint8, order="C"), False
        rows = np.empty((stop - start, *self._shape[1:]), self._dtype)
        place = self._offset + start * (rows.nbytes // max(len(rows), 1))
        try:
            n_read = self._file.read_into(rows.view(np.uint8).reshape(-1).data, place)
        except OSError as error:
            raise unavailable(name, str(error)) from error
        if n_read < rows.nbytes:
            raise unavailable(name, "an end of the file before the end of the image")
        return rows.astype(np.uint8, copy=False), False

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _map(path: str, name: str) -> NDArray[np.generic]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("an archive of arrays")
    except (OSError, ValueError, EOFError) as error:
        raise ImageFileError(
            f"{name} cannot be read as an array",
            got=f"{type(error).__name__}: {error}",
            accepted=f"a .npy file: {stimuli.ACCEPTED}",
            do="write it with np.save(path, images)",
        ) from error
    return array
