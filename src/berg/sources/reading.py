"""Reading images from wherever they lie, from several threads."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from berg.errors import ImageFileError, ResourceError
from berg.sources.arrays import OpenArray
from berg.sources.hdf5 import OpenDataset
from berg.sources.open_files import OpenFiles, check_unchanged, unavailable
from berg.sources.photos import SKIP, ReadImage, decode_photo
from berg.sources.references import (
    ArrayImage,
    HDF5Image,
    ImageFile,
    ImageReference,
    ShardImage,
    show_name,
)
from berg.sources.shards import OpenShard

# A file that its owner keeps to himself, or no file: bad for good, and no fault of the disk's.
_THE_FILES_OWN = (errno.EACCES, errno.EPERM, errno.EISDIR)


@dataclass(frozen=True)
class ReadImages:
    """Images of one size that lie side by side in memory.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (n_images, 3, side, side)
    cropped : bool
        Whether they were cut to their central squares.
    """

    pixels: NDArray[np.uint8]
    cropped: bool


class ImageReader:
    """Reads images, and keeps the arrays and shards that they lie in open for the next.

    Several threads may use one reader. Its files are open until `close`, or the end of a
    ``with`` block.
    """

    def __init__(self) -> None:
        self._files = OpenFiles()

    def read(self, reference: ImageReference) -> ReadImage:
        """Read an image.

        Parameters
        ----------
        reference : ImageReference

        Returns
        -------
        ReadImage

        Raises
        ------
        ImageFileError
            If what lies there is not an image. The message names file, row or member.
        ResourceError
            If the file is gone, was changed since it was found, or the disk fails: another
            time the image may well be read.
        """
        match reference:
            case ImageFile():
                return decode_photo(_content(reference), show_name(reference.name))
            case ShardImage():
                return decode_photo(self._member(reference), show_name(reference.name))
            case ArrayImage() | HDF5Image():
                rows = self._rows(reference, 1)
                return ReadImage(rows.pixels[0], rows.cropped)

    def read_together(
        self, references: Sequence[ImageReference]
    ) -> list[ReadImages | ImageFileError]:
        """Read images that `runs` put together.

        Parameters
        ----------
        references : sequence of ImageReference

        Returns
        -------
        list of ReadImages or ImageFileError
            One `ReadImages` for all, or one for each image that can be read, and an error for
            each that cannot.

        Raises
        ------
        ResourceError
            As `read`.
        """
        if len(references) > 1 and isinstance(first := references[0], ArrayImage | HDF5Image):
            try:
                return [self._rows(first, len(references))]
            except ImageFileError:
                pass  # one of them is bad; which, reading one by one tells
        return [self._try(reference) for reference in references]

    def runs(self, references: Sequence[ImageReference]) -> Iterator[tuple[int, int]]:
        """Group images that are best read together: rows that follow each other in an array.

        Parameters
        ----------
        references : sequence of ImageReference

        Yields
        ------
        start, stop : int
            Positions, of one image where images are read one by one.
        """
        start = 0
        while start < len(references):
            stop = start + 1
            last = start + self._most_together(references, start)
            while stop < last and _follows(references[stop - 1], references[stop]):
                stop += 1
            yield start, stop
            start = stop

    def close(self) -> None:
        """Close the files. No thread may be reading."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _try(self, reference: ImageReference) -> ReadImages | ImageFileError:
        try:
            image = self.read(reference)
        except ImageFileError as error:
            return error
        return ReadImages(image.pixels[np.newaxis], image.cropped)

    def _member(self, reference: ShardImage) -> bytes:
        path, name = reference.path, show_name(reference.name)
        with self._files.borrow(
            path, path, name, reference.mtime_ns, lambda: OpenShard(path)
        ) as shard:
            try:
                content = shard.read(reference.offset, reference.size)
            except OSError as error:
                raise unavailable(name, str(error)) from error
        if len(content) < reference.size:
            raise unavailable(name, "an end of the shard before the end of the image")
        return content

    def _rows(self, first: ArrayImage | HDF5Image, n_rows: int) -> ReadImages:
        with self._array(first) as array:
            return ReadImages(*array.read(first.row, first.row + n_rows, show_name(first.name)))

    def _most_together(self, references: Sequence[ImageReference], start: int) -> int:
        first = references[start]
        left = len(references) - start
        if left == 1 or not isinstance(first, ArrayImage | HDF5Image):
            return 1
        try:
            with self._array(first) as array:
                return min(left, array.rows_at_once)
        except ResourceError:
            return 1  # which its reading raises again, after the images before it

    def _array(
        self, reference: ArrayImage | HDF5Image
    ) -> AbstractContextManager[OpenArray | OpenDataset]:
        path, name = reference.path, show_name(reference.name)
        if isinstance(reference, ArrayImage):
            return self._files.borrow(
                path, path, name, reference.mtime_ns, lambda: OpenArray(path, name)
            )
        dataset = reference.dataset
        return self._files.borrow(
            (path, dataset), path, name, reference.mtime_ns, lambda: OpenDataset(path, dataset)
        )


def _content(reference: ImageFile) -> bytes:
    name = show_name(reference.name)
    try:
        with open(reference.path, "rb") as file:
            check_unchanged(name, os.fstat(file.fileno()).st_mtime_ns, reference.mtime_ns)
            return file.read()
    except OSError as error:
        if error.errno in _THE_FILES_OWN:
            raise ImageFileError(
                f"{name} cannot be read",
                got=str(error),
                accepted="files that you may read",
                do=f"change its permissions, or {SKIP}",
            ) from error
        raise unavailable(name, str(error)) from error


def _follows(reference: ImageReference, other: ImageReference) -> bool:
    """Tell whether `other` is the next row of the array that an image is a row of."""
    match reference, other:
        case ArrayImage(), ArrayImage():
            return other.path == reference.path and other.row == reference.row + 1
        case HDF5Image(), HDF5Image():
            together = (other.path, other.dataset) == (reference.path, reference.dataset)
            return together and other.row == reference.row + 1
        case _:
            return False
