"""One object brought to disk: in parts, again and again where the connection drops, verified."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from berg.downloads.bucket import Bucket, ReplacedError, TransientError
from berg.downloads.checksums import FileHashes, HashedFile, RemoteFile
from berg.downloads.parts import PartFile, discard_part
from berg.downloads.threads import Task, run_in_threads
from berg.errors import ChecksumError

logger = logging.getLogger(__name__)

_HASH_SECONDS = 0.02  # between looks whether more has come
Count = Callable[[int], object]


def fetch_verified(
    bucket: Bucket, remote: RemoteFile, target: Path, n_counted: int, count: Count
) -> tuple[RemoteFile, FileHashes, Path]:
    """Fetch an object into the hidden file beside its target, and compare it with the bucket's.

    What fails that is thrown away and fetched once more; so is an object that was replaced
    meanwhile.

    Parameters
    ----------
    bucket : Bucket
    remote : RemoteFile
    target : Path
    n_counted : int
        Bytes that had come before, as the caller knows.
    count : callable
        Called with the number of bytes that came since; with a negative one for those thrown away.

    Returns
    -------
    remote : RemoteFile
        As it is now.
    hashes : FileHashes
        Of what came.
    part : Path
        The file, verified.

    Raises
    ------
    ChecksumError
        If it is not what the bucket holds the second time either. Nothing of it is left.
    DownloadError
        If it cannot be fetched. What came is kept, to go on from.
    ResourceError
        If it cannot be written.
    """
    was_replaced = has_failed = False
    while True:

        def show(n_done: int) -> None:
            nonlocal n_counted
            count(n_done - n_counted)
            n_counted = n_done

        try:
            part, hashes = _fetch(bucket, remote, target, show)
        except ReplacedError:
            if was_replaced:
                raise
            was_replaced = True
            logger.info("%s was replaced; it is fetched from its start", bucket.url(remote.key))
            remote = bucket.find(remote.key)
        else:
            difference = hashes.difference(remote)
            if difference is None:
                if not remote.has_checksum:
                    logger.warning(
                        "%s: the server gives no checksum of it (ETag %s); only its size, %s "
                        "bytes, could be compared",
                        *(bucket.url(remote.key), remote.etag, f"{remote.n_bytes:,}"),
                    )
                return remote, hashes, part
            if has_failed:
                discard_part(target)
                raise ChecksumError(
                    f"{bucket.url(remote.key)} does not arrive as the bucket holds it",
                    got=f"{difference}, twice",
                    accepted=f"{remote.n_bytes:,} bytes, ETag {remote.etag}",
                    do="try later, or on another network: something on the way changes bytes",
                )
            has_failed = True
            logger.warning("%s: %s; it is fetched once more", bucket.url(remote.key), difference)
        discard_part(target)
        show(0)


def _fetch(
    bucket: Bucket, remote: RemoteFile, target: Path, show: Callable[[int], object]
) -> tuple[Path, FileHashes]:
    """Fetch what is missing of an object, and hash what has come meanwhile."""
    pace = bucket.pace
    with PartFile(target, remote) as part:
        with HashedFile(part.path, remote.uploaded_part_bytes) as hashed:
            tasks: list[Task] = [partial(_hash_behind, hashed, part, remote.n_bytes)]
            tasks += (
                partial(_fetch_range, bucket, remote, part, start, stop)
                for start, stop in part.missing(pace.part_bytes)
            )
            run_in_threads(tasks, pace.n_threads + 1, lambda: show(part.n_done))
            hashes = hashed.hashes()
        part.sync()
        return part.path, hashes


def _hash_behind(
    hashed: HashedFile, part: PartFile, n_bytes: int, stop_event: threading.Event
) -> None:
    """Hash the file from its start, as far as it has come, until it is whole."""
    while hashed.n_bytes < n_bytes and not stop_event.is_set():
        if not hashed.read_on(part.n_from_start()):
            stop_event.wait(_HASH_SECONDS)


def _fetch_range(
    bucket: Bucket,
    remote: RemoteFile,
    part: PartFile,
    start: int,
    stop: int,
    stop_event: threading.Event,
) -> None:
    """Fetch a range, going on where a connection left it."""
    n_failed, waits = 0, bucket.pace.waits()
    while start < stop:
        before = start
        try:
            with closing(bucket.read(remote, start, stop)) as chunks:
                for chunk in chunks:
                    if stop_event.is_set() or not part.write(start, chunk):
                        return
                    start += len(chunk)
        except TransientError as err:
            if start > before:
                n_failed, waits = 0, bucket.pace.waits()
            n_failed += 1
            if n_failed >= bucket.pace.attempts:
                raise
            wait = next(waits)
            logger.info("%s; attempt %d follows in %.1f s", err, n_failed + 1, wait)
            if stop_event.wait(wait):
                return
