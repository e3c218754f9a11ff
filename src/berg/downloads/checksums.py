"""Checksums of files, and what a server says of an object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from berg.errors import ResourceError

_READ_BYTES = 4 * 2**20


@dataclass(frozen=True)
class RemoteFile:
    """An object in a bucket, as its server describes it.

    Parameters
    ----------
    key : str
    n_bytes : int
    etag : str
        Without its quotation marks. It names this version of the object, whatever it is made of.
    has_md5 : bool
        Whether `etag` can be computed from the bytes: it is their MD5, or one of the MD5s of the
        parts that the object was uploaded in.
    uploaded_part_bytes : int or None
        Size of those parts; None for an object that was uploaded whole.
    sha256 : str or None
        Hexadecimal, where the server gives it.
    is_weak : bool
        Whether the server calls `etag` weak, and is to be asked for it as such.
    """

    key: str
    n_bytes: int
    etag: str
    has_md5: bool
    uploaded_part_bytes: int | None = None
    sha256: str | None = None
    is_weak: bool = False

    @property
    def has_checksum(self) -> bool:
        """Whether more than the size can be compared."""
        return self.has_md5 or self.sha256 is not None


@dataclass(frozen=True)
class FileHashes:
    """What a file's bytes give.

    Parameters
    ----------
    n_bytes : int
    sha256 : str
        Hexadecimal.
    etag : str
        As S3 makes it of MD5s.
    """

    n_bytes: int
    sha256: str
    etag: str

    def difference(self, remote: RemoteFile) -> str | None:
        """Say in what the file differs from an object; None if in nothing that is known."""
        if self.n_bytes != remote.n_bytes:
            return f"{self.n_bytes:,} bytes, where the bucket has {remote.n_bytes:,}"
        if remote.sha256 is not None and self.sha256 != remote.sha256:
            return f"SHA-256 {self.sha256[:16]}…, where the bucket has {remote.sha256[:16]}…"
        if remote.has_md5 and self.etag != remote.etag:
            return f"MD5 {self.etag}, where the bucket has {remote.etag}"
        return None


def hash_file(
    path: Path,
    uploaded_part_bytes: int | None = None,
    count: Callable[[int], object] = lambda n_bytes: None,
) -> FileHashes:
    """Read a file once and compute its checksums; a second for 540 MB.

    Parameters
    ----------
    path : Path
    uploaded_part_bytes : int, optional
        For the ETag of an object that was uploaded in parts of this size.
    count : callable
        Called with the number of bytes after each piece.

    Returns
    -------
    FileHashes

    Raises
    ------
    ResourceError
        If it cannot be read.

    Notes
    -----
    S3's ETag of an upload in parts is the MD5 of the parts' MD5s (as bytes, one after the other),
    a hyphen and their number. It is nowhere promised, but has always been so.
    """
    with HashedFile(path, uploaded_part_bytes) as hashed:
        while n_new := hashed.read_on():
            count(n_new)
        return hashed.hashes()


class HashedFile:
    """The checksums of a file, as far as it has been read; it may still grow.

    Parameters
    ----------
    path : Path
    uploaded_part_bytes : int, optional
        As for `hash_file`.

    Raises
    ------
    ResourceError
        If it cannot be read; so do its methods.
    """

    def __init__(self, path: Path, uploaded_part_bytes: int | None = None) -> None:
        self._path, self._part_bytes = path, uploaded_part_bytes
        self._sha256, self._md5 = hashlib.sha256(), _md5()
        self._part_digests: list[bytes] = []
        self.n_bytes = self._n_in_part = 0
        # Both hashes let other threads run, so the second is done while the first is.
        self._other = ThreadPoolExecutor(1)
        with self._told():
            # Without a buffer, which would hold bytes from beyond `stop`, as they were then.
            self._file = path.open("rb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._other.shutdown()

    def read_on(self, stop: int | None = None) -> int:
        """Read the next few MB, but no further than `stop`.

        Returns
        -------
        int
            Bytes that were read; 0 at the end.
        """
        wanted = _READ_BYTES if stop is None else min(_READ_BYTES, stop - self.n_bytes)
        with self._told():
            piece = self._file.read(max(wanted, 0))
        all_of_it = self._other.submit(self._sha256.update, piece)
        self._update_md5(memoryview(piece))
        all_of_it.result()
        self.n_bytes += len(piece)
        return len(piece)

    def hashes(self) -> FileHashes:
        """Return the checksums of what was read."""
        etag = self._md5.hexdigest()
        if self._part_bytes is not None:
            digests = self._part_digests + [self._md5.digest()] * (self._n_in_part > 0)
            etag = f"{_md5(b''.join(digests)).hexdigest()}-{len(digests)}"
        return FileHashes(self.n_bytes, self._sha256.hexdigest(), etag)

    def _update_md5(self, rest: memoryview) -> None:
        while self._part_bytes and self._n_in_part + len(rest) >= self._part_bytes:
            head = self._part_bytes - self._n_in_part
            self._md5.update(rest[:head])
            self._part_digests.append(self._md5.digest())
            self._md5, rest, self._n_in_part = _md5(), rest[head:], 0
        self._md5.update(rest)
        self._n_in_part += len(rest)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise ResourceError(
                f"{self._path} cannot be read",
                got=str(err),
                accepted="a file that you may read",
                do="check its permissions, and the disk",
            ) from err


def _md5(content: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(content, usedforsecurity=False)
