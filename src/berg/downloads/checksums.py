"""Checksums of files, and what a server says of an object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
    """

    key: str
    n_bytes: int
    etag: str
    has_md5: bool
    uploaded_part_bytes: int | None = None
    sha256: str | None = None

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
    try:
        return _hash_file(path, uploaded_part_bytes, count)
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be read",
            got=str(err),
            accepted="a file that you may read",
            do="check its permissions, and the disk",
        ) from err


def _hash_file(
    path: Path, uploaded_part_bytes: int | None, count: Callable[[int], object]
) -> FileHashes:
    sha256, md5 = hashlib.sha256(), _md5()
    part_digests: list[bytes] = []
    n_bytes = n_in_part = 0
    # Both let other threads run, so the second is done while the first is.
    with path.open("rb") as file, ThreadPoolExecutor(1) as other:
        while piece := file.read(_READ_BYTES):
            all_of_it = other.submit(sha256.update, piece)
            rest = memoryview(piece)
            while uploaded_part_bytes and n_in_part + len(rest) >= uploaded_part_bytes:
                head = uploaded_part_bytes - n_in_part
                md5.update(rest[:head])
                part_digests.append(md5.digest())
                md5, rest, n_in_part = _md5(), rest[head:], 0
            md5.update(rest)
            n_in_part += len(rest)
            all_of_it.result()
            n_bytes += len(piece)
            count(len(piece))
    if uploaded_part_bytes is None:
        return FileHashes(n_bytes, sha256.hexdigest(), md5.hexdigest())
    if n_in_part:
        part_digests.append(md5.digest())
    etag = f"{_md5(b''.join(part_digests)).hexdigest()}-{len(part_digests)}"
    return FileHashes(n_bytes, sha256.hexdigest(), etag)


def _md5(content: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(content, usedforsecurity=False)
