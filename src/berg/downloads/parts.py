"""Files on their way: hidden beside their targets, with a journal of what has come.

``.NAME.part`` has the full size from the start, with holes. ``.NAME.part.journal`` is a line of
JSON that says which object it is of, then a line ``start stop`` for each range of bytes after it
was written. A process may be killed at any moment: what the journal has is in the file. After a
power cut it may not be, which the checksum of the whole tells; where the server gives none, a
download that was interrupted begins anew.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from berg.atomic import TEMPORARY_NAME
from berg.downloads.checksums import RemoteFile
from berg.errors import ResourceError

_PART, _JOURNAL = ".part", ".part.journal"
_HIDDEN_NAME = re.compile(r"\.(.+?)\.part(?:\.journal)?")
_FORMAT = 1


@dataclass(frozen=True)
class InterruptedDownload:
    """A download that was begun and not finished.

    Parameters
    ----------
    target : Path
        What it would have become.
    part, journal : Path
        The files that it has, or one of them; without both it begins anew.
    n_bytes : int
        That have come.
    """

    target: Path
    part: Path
    journal: Path
    n_bytes: int


def find_interrupted(berg_dir: str | os.PathLike[str]) -> Iterator[InterruptedDownload]:
    """Find the unfinished downloads of a berg_dir, those of running processes among them.

    Parameters
    ----------
    berg_dir : path-like

    Yields
    ------
    InterruptedDownload
    """
    found = {
        Path(folder, hidden[1])
        for folder, _, names in os.walk(Path(berg_dir, "encoding_models"))
        for name in names
        if (hidden := _HIDDEN_NAME.fullmatch(name)) and not TEMPORARY_NAME.fullmatch(name)
    }
    for target in sorted(found):
        part, journal = _part_path(target), _journal_path(target)
        n_bytes = sum(stop - start for start, stop in _read_journal(journal)[1])
        yield InterruptedDownload(target, part, journal, n_bytes if os.path.exists(part) else 0)


class PartFile:
    """What has come of an object so far. Threads may write to it at the same time.

    Parameters
    ----------
    target : Path
        The final name.
    remote : RemoteFile
        What is there of another version of the object is thrown away.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """

    def __init__(self, target: Path, remote: RemoteFile) -> None:
        self.path, self._journal_path = _part_path(target), _journal_path(target)
        self._remote, self._lock = remote, threading.Lock()
        self._file = self._journal = -1
        try:
            done = _done(target, remote)
            if done is None:
                self._begin()
                done = []
            self._file = os.open(self.path, os.O_WRONLY)
            self._journal = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND)
            os.write(self._journal, b"\n")  # the last line may be half of one
        except OSError as err:
            self.close()
            raise self._not_writable(err) from err
        self._done = done
        self.n_done = sum(stop - start for start, stop in done)
        # Runs of bytes that have come, each from its start and from its end.
        self._stops, self._starts = dict(done), {stop: start for start, stop in done}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def missing(self, most_bytes: int) -> Iterator[tuple[int, int]]:
        """Give the ranges that had not come when the file was opened, none longer than that."""
        ends = [*self._done, (self._remote.n_bytes, self._remote.n_bytes)]
        start = 0
        for next_start, next_stop in ends:
            while start < next_start:
                stop = min(start + most_bytes, next_start)
                yield start, stop
                start = stop
            start = max(start, next_stop)

    def write(self, start: int, chunk: bytes) -> bool:
        """Write bytes to their place.

        Returns
        -------
        bool
            False, with nothing written, if the file was closed meanwhile.

        Raises
        ------
        ResourceError
            If they cannot be written.
        """
        with self._lock:
            if self._file < 0:
                return False
            try:
                n_written = 0
                while n_written < len(chunk):
                    rest = memoryview(chunk)[n_written:]
                    n_written += os.pwrite(self._file, rest, start + n_written)
                os.write(self._journal, b"%d %d\n" % (start, start + len(chunk)))
            except OSError as err:
                raise self._not_writable(err) from err
            self.n_done += len(chunk)
            stop = start + len(chunk)
            run = self._starts.pop(start, start)
            self._stops[run], self._starts[stop] = stop, run
            return True

    def n_from_start(self) -> int:
        """Return up to where the file has all of its bytes."""
        with self._lock:
            stop = 0
            while stop in self._stops:
                stop = self._stops[stop]
            return stop

    def sync(self) -> None:
        """Have all of it on the disk, or a power cut may leave a final name on an empty file."""
        try:
            os.fsync(self._file)
        except OSError as err:
            raise self._not_writable(err) from err

    def close(self) -> None:
        """Write no more, whatever thread may still want to."""
        with self._lock:
            for descriptor in (self._file, self._journal):
                if descriptor >= 0:
                    os.close(descriptor)
            self._file = self._journal = -1

    def _begin(self) -> None:
        """Make an empty file of the full size. Until its journal is there it counts for nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._journal_path.unlink(missing_ok=True)
        with self.path.open("wb") as file:
            file.truncate(self._remote.n_bytes)
        head = {"format": _FORMAT, **_identity(self._remote)}
        self._journal_path.write_text(json.dumps(head) + "\n", encoding="utf-8")

    def _not_writable(self, err: OSError) -> ResourceError:
        return ResourceError(
            f"{self.path} cannot be written",
            got=str(err),
            accepted=f"a folder that you may write to, with {self._remote.n_bytes:,} bytes free",
            do="make space, or choose another --berg-dir; the same command goes on from where it "
            "was",
        )


def discard_part(target: Path) -> None:
    """Remove what there is of an unfinished download: the large file first."""
    for path in (_part_path(target), _journal_path(target)):
        remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a file if it is there.

    Raises
    ------
    ResourceError
        If it cannot be removed.
    """
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be removed", got=str(err), do="remove it yourself, or its folder"
        ) from err


def count_done(target: Path, remote: RemoteFile) -> int:
    """Return how many bytes of an object have come already."""
    return sum(stop - start for start, stop in _done(target, remote) or [])


def _part_path(target: Path) -> Path:
    return target.with_name(f".{target.name}{_PART}")


def _journal_path(target: Path) -> Path:
    return target.with_name(f".{target.name}{_JOURNAL}")


def _identity(remote: RemoteFile) -> dict[str, str | int]:
    return {"key": remote.key, "etag": remote.etag, "n_bytes": remote.n_bytes}


def _done(target: Path, remote: RemoteFile) -> list[tuple[int, int]] | None:
    """Return the ranges of an object that have come; None if it is to begin anew."""
    if not remote.has_checksum:
        return None  # nothing would tell if they were not on the disk
    head, done = _read_journal(_journal_path(target))
    try:
        size = _part_path(target).stat().st_size
    except OSError:
        return None
    if head != {"format": _FORMAT, **_identity(remote)} or size != remote.n_bytes:
        return None
    return done


def _read_journal(path: Path) -> tuple[object, list[tuple[int, int]]]:
    """Return which object a journal is of, and its ranges: sorted, without overlaps."""
    try:
        first, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        head = json.loads(first)
    except (OSError, ValueError):
        return None, []
    ranges: list[tuple[int, int]] = []
    for line in lines:
        # The last line before a kill or on a full disk may lack digits at its end: it then says
        # less than what was written, and never more.
        with suppress(ValueError):
            start, stop = map(int, line.split())
            ranges.append((start, stop))
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return head, merged
