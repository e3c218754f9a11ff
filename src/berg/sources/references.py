"""Where one image lies on disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own.

    Parameters
    ----------
    name : str
        What users see: the path as it was given.
    path : str
        Absolute path of the file.
    mtime_ns : int or None
        When the file was last changed, in nanoseconds. If it is given, a reader refuses the
        file once it is changed; the other kinds of image likewise.
    """

    name: str
    path: str
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """A row of a `.npy` file of shape (n_images, 3, side, side).

    Parameters
    ----------
    name, path, mtime_ns
        As those of `ImageFile`; the name is followed by the row in brackets.
    row : int
        Counted from 0.
    """

    name: str
    path: str
    row: int
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class HDF5Image:
    """A row of a dataset in an HDF5 file.

    Parameters
    ----------
    name, path, mtime_ns
        As those of `ImageFile`; the name is ``path:dataset[row]``.
    dataset : str
        Path of the dataset in the file, of shape (n_images, height, width, 3) or
        (n_images, 3, height, width).
    row : int
        Counted from 0.
    """

    name: str
    path: str
    dataset: str
    row: int
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ShardImage:
    """An image file within an uncompressed tar archive, a shard.

    Parameters
    ----------
    name, path, mtime_ns
        As those of `ImageFile`, of the shard; the name is ``path:member``.
    offset, size : int
        Where the image's bytes begin in the shard, and how many there are.
    """

    name: str
    path: str
    offset: int
    size: int
    mtime_ns: int | None = None


ImageReference = ImageFile | ArrayImage | HDF5Image | ShardImage


def show_name(name: str) -> str:
    r"""Return an image's name as it fits into a line: what cannot be printed is escaped.

    Examples
    --------
    >>> print(show_name("photos/été 1.png"), show_name("two\nlines.png"))
    photos/été 1.png two\nlines.png
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )
