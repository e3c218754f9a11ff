"""The images that were found: millions of them in little memory."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from berg.sources.references import ArrayImage, HDF5Image, ImageFile, ImageReference, ShardImage


class PackedNames:
    """Names in one string of bytes: 8 bytes a name beside its characters.

    Parameters
    ----------
    names : sequence of str
    """

    def __init__(self, names: Sequence[str]) -> None:
        encoded = list(map(os.fsencode, names))
        self._bytes = b"".join(encoded)
        self._stops = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))

    def __len__(self) -> int:
        return len(self._stops)

    def take(self, start: int, stop: int) -> list[str]:
        """Return the names from `start` up to `stop`."""
        begin = int(self._stops[start - 1]) if start else 0
        names = []
        for end in self._stops[start:stop].tolist():
            names.append(os.fsdecode(self._bytes[begin:end]))
            begin = end
        return names

    def content(self) -> tuple[bytes, bytes]:
        """Return bytes that are equal for equal names only."""
        return self._bytes, self._stops.astype("<i8").tobytes()


class Part(Protocol):
    """Images that follow each other in one kind of place."""

    def __len__(self) -> int: ...

    @property
    def n_bytes(self) -> int:
        """Bytes on disk that the images lie in."""

    def names(self, start: int, stop: int) -> list[str]:
        """Return names of images from `start` up to `stop`, counted within this part."""

    def references(self, start: int, stop: int) -> Sequence[ImageReference]:
        """Return the images from `start` up to `stop`, counted within this part."""

    def content(self) -> tuple[bytes, ...]:
        """Return names, sizes and times of change, as bytes."""


@dataclass(frozen=True)
class Container:
    """A file that holds several images.

    Parameters
    ----------
    name, path : str
        As users gave it, and absolute.
    size : int
        Bytes.
    mtime_ns : int
        When it was last changed.
    """

    name: str
    path: str
    size: int
    mtime_ns: int

    def content(self) -> tuple[bytes, ...]:
        """Return name, size and time of change, as bytes."""
        return os.fsencode(self.name), b"%d" % self.size, b"%d" % self.mtime_ns


@dataclass(frozen=True)
class FilePart:
    """Image files. Their paths are their names, from the folder `root`."""

    root: str
    packed: PackedNames
    sizes: NDArray[np.int64]
    mtimes_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def n_bytes(self) -> int:
        """Bytes of all files together."""
        return int(self.sizes.sum())

    def names(self, start: int, stop: int) -> list[str]:
        """Return the paths as they were given."""
        return self.packed.take(start, stop)

    def references(self, start: int, stop: int) -> Sequence[ImageFile]:
        """Return the files from `start` up to `stop`."""
        return [
            ImageFile(name, os.path.join(self.root, name), mtime_ns)
            for name, mtime_ns in zip(
                self.packed.take(start, stop), self.mtimes_ns[start:stop].tolist(), strict=True
            )
        ]

    def content(self) -> tuple[bytes, ...]:
        """Return names, sizes and times of change, as bytes."""
        numbers = (self.sizes.astype("<i8"), self.mtimes_ns.astype("<i8"))
        return *self.packed.content(), *(array.tobytes() for array in numbers)


@dataclass(frozen=True)
class ArrayPart:
    """The rows of a `.npy` file, or of a dataset in an HDF5 file."""

    container: Container
    dataset: str | None  # None for a .npy file
    n_images: int

    def __len__(self) -> int:
        return self.n_images

    @property
    def n_bytes(self) -> int:
        """Bytes of the file."""
        return self.container.size

    @property
    def name(self) -> str:
        """What the rows' names begin with."""
        name = self.container.name
        return name if self.dataset is None else f"{name}:{self.dataset}"

    def names(self, start: int, stop: int) -> list[str]:
        """Return the rows' names: that of the array, and the row in brackets."""
        return [f"{self.name}[{row}]" for row in range(start, stop)]

    def references(self, start: int, stop: int) -> Sequence[ArrayImage | HDF5Image]:
        """Return the rows from `start` up to `stop`."""
        path, mtime_ns = self.container.path, self.container.mtime_ns
        named = zip(range(start, stop), self.names(start, stop), strict=True)
        if self.dataset is None:
            return [ArrayImage(name, path, row, mtime_ns) for row, name in named]
        return [HDF5Image(name, path, self.dataset, row, mtime_ns) for row, name in named]

    def content(self) -> tuple[bytes, ...]:
        """Return name, size, time of change and number of images, as bytes."""
        dataset = b"" if self.dataset is None else os.fsencode(self.dataset)
        return *self.container.content(), dataset, b"%d" % self.n_images


@dataclass(frozen=True)
class ShardPart:
    """The images of a shard."""

    container: Container
    members: PackedNames
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.members)

    @property
    def n_bytes(self) -> int:
        """Bytes of the shard."""
        return self.container.size

    def names(self, start: int, stop: int) -> list[str]:
        """Return the names of shard and member, with a colon between them."""
        return [f"{self.container.name}:{name}" for name in self.members.take(start, stop)]

    def references(self, start: int, stop: int) -> Sequence[ShardImage]:
        """Return the members from `start` up to `stop`."""
        path, mtime_ns = self.container.path, self.container.mtime_ns
        return [
            ShardImage(name, path, offset, size, mtime_ns)
            for name, offset, size in zip(
                self.names(start, stop),
                self.offsets[start:stop].tolist(),
                self.sizes[start:stop].tolist(),
                strict=True,
            )
        ]

    def content(self) -> tuple[bytes, ...]:
        """Return name, size and time of change of the shard, and its members, as bytes."""
        return *self.container.content(), *self.members.content()


class ImageCollection:
    """Images on disk, in order. `berg.sources.find_images` makes one.

    Nothing is kept of a row of an array; of an image file its path, size and time of change.
    A collection can be pickled.

    Parameters
    ----------
    parts : sequence of Part

    Examples
    --------
    >>> len(ImageCollection([]))
    0
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._starts = [0, *accumulate(map(len, self._parts))]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> ImageReference: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageReference]: ...

    def __getitem__(self, index: int | slice) -> ImageReference | list[ImageReference]:
        """Return where images lie: one of them, or a list for a slice."""
        positions = range(len(self))[index]  # NumPy's and Python's meaning, and their errors
        if isinstance(positions, int):
            return self._between(positions, positions + 1)[0]
        if not positions:
            return []
        low, high = min(positions[0], positions[-1]), max(positions[0], positions[-1])
        found = self._between(low, high + 1)
        return found if positions.step == 1 else [found[position - low] for position in positions]

    def names(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the names of the images from `start` up to `stop`.

        Parameters
        ----------
        start, stop : int
            Positions, as those of a slice. By default all.

        Returns
        -------
        list of str
            ``photos/cat.jpg``, ``images.npy[0]``, ``nsd_stimuli.hdf5:imgBrick[0]`` or
            ``shard-000.tar:0001.jpg``, each after the path as it was given.
        """
        return [
            name
            for part, first, last in self._spans(*slice(start, stop).indices(len(self))[:2])
            for name in part.names(first, last)
        ]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of names, sizes and times of change of all there is.

        Of arrays and shards these are the file's. Pixels are not read.
        """
        digest = hashlib.sha256()
        for part in self._parts:
            digest.update(type(part).__name__.encode())
            for content in part.content():
                digest.update(b"%d:" % len(content))
                digest.update(content)
        return digest.hexdigest()

    @property
    def n_bytes(self) -> int:
        """Bytes on disk of all files that the images lie in; one named twice counts twice."""
        return sum(part.n_bytes for part in self._parts)

    def _between(self, start: int, stop: int) -> list[ImageReference]:
        return [
            reference
            for part, first, last in self._spans(start, stop)
            for reference in part.references(first, last)
        ]

    def _spans(self, start: int, stop: int) -> list[tuple[Part, int, int]]:
        """Return the parts that images lie in, with positions counted within each."""
        spans = []
        i_part = bisect_right(self._starts, start) - 1
        while start < stop:
            part, first = self._parts[i_part], self._starts[i_part]
            last = min(stop, self._starts[i_part + 1])
            if last > start:  # a part may be empty: an array of no image
                spans.append((part, start - first, last - first))
            start = last
            i_part += 1
        return spans
