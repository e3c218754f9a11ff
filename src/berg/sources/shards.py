"""The images within uncompressed tar archives, as WebDataset writes them."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass, field

import numpy as np

from berg.errors import ImageFileError
from berg.sources.collection import Container, PackedNames, ShardPart
from berg.sources.open_files import PositionalFile
from berg.sources.photos import ACCEPTED, SUFFIXES

SUFFIX = ".tar"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_BLOCK = 512  # bytes; headers begin at multiples of it, and one of zeros ends the archive
_GET_AGAIN = "get the shard again, or make it again with tar"


@dataclass
class _Index:
    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    n_others: int = 0


def index_shard(container: Container) -> ShardPart:
    """List the images of a shard, from one pass over its members' headers.

    Parameters
    ----------
    container : Container

    Returns
    -------
    ShardPart
        Members whose names end as those of images, in their order; hidden ones are left out.

    Raises
    ------
    ImageFileError
        If the shard is truncated, damaged, compressed, or holds no image.
    """
    try:
        with open(container.path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            index = _read_headers(container, archive)
            file.seek(archive.offset)
            end = file.read(_BLOCK)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged(container, f"{type(error).__name__}: {error}") from error
    # tarfile takes a header that it cannot read, and a file that just stops, for the end.
    if end != bytes(_BLOCK):
        what = "a damaged header" if len(end) == _BLOCK else "no end mark: it was cut short"
        raise _damaged(container, f"{what}, {archive.offset} bytes into it")
    if not index.names:
        raise ImageFileError(
            f"no images in the shard {container.name}",
            got=f"{index.n_others} other members",
            accepted=f"members with the names of images ({', '.join(SUFFIXES)})",
            do="check the path",
        )
    return ShardPart(
        container,
        PackedNames(index.names),
        np.array(index.offsets, np.int64),
        np.array(index.sizes, np.int64),
    )


class OpenShard:
    """A shard, open for reading members from several threads.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str) -> None:
        self._file = PositionalFile(path)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, or fewer where the file ends."""
        content = bytearray(size)
        return bytes(content[: self._file.read_into(memoryview(content), offset)])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def check_not_compressed(name: str) -> None:
    """Raise if a file is named as a compressed shard.

    Parameters
    ----------
    name : str

    Raises
    ------
    ImageFileError
    """
    if not name.lower().endswith(_COMPRESSED):
        return
    raise ImageFileError(
        f"the shard {name} is compressed",
        got="an archive of which no member can be read without all that are before it",
        accepted="uncompressed shards (.tar); images are compressed themselves",
        do="decompress it: gunzip for .gz and .tgz, bunzip2, unxz or unzstd for the others",
    )


def _read_headers(container: Container, archive: tarfile.TarFile) -> _Index:
    index = _Index()
    while (member := archive.next()) is not None:
        # Or every header stays in memory, which the types of Python do not know.
        archive.members.clear()  # type: ignore[attr-defined]
        if not _is_image(member):
            index.n_others += 1
        elif not member.isreg() or member.issparse():
            raise ImageFileError(
                f"the member {member.name} of the shard {container.name} does not hold its image",
                got="a sparse file" if member.issparse() else f"a link to {member.linkname}",
                accepted="members that hold their images as they are",
                do="make the shard again: tar --dereference --hard-dereference, without --sparse",
            )
        else:
            index.names.append(member.name)
            index.offsets.append(member.offset_data)
            index.sizes.append(member.size)
    if index.names and index.offsets[-1] + index.sizes[-1] > os.path.getsize(container.path):
        raise tarfile.ReadError("the last member is cut short")
    return index


def _is_image(member: tarfile.TarInfo) -> bool:
    if member.isdir() or not member.name.lower().endswith(SUFFIXES):
        return False
    # "./" in front is how tar names what it was given as a folder.
    return not any(part.startswith(".") for part in member.name.removeprefix("./").split("/"))


def _damaged(container: Container, got: str) -> ImageFileError:
    return ImageFileError(
        f"the shard {container.name} is truncated or damaged",
        got=got,
        accepted=ACCEPTED,
        do=_GET_AGAIN,
    )
