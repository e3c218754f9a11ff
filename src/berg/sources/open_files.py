"""Files that hold many images, kept open while they are read from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from threading import Lock
from typing import Protocol, TypeVar, cast

from berg.errors import BERGError, ResourceError

_MOST_OPEN = 32  # a system may allow a process only 256
_HAS_PREADV = hasattr(os, "preadv")  # not on Windows


class Closable(Protocol):
    """What is kept open."""

    def close(self) -> None:
        """Close it."""


Kind = TypeVar("Kind", bound=Closable)


@dataclass
class _Entry:
    file: Closable
    mtime_ns: int
    n_users: int = 0


class PositionalFile:
    """A file that several threads read, each at places of its own.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._file = FileIO(path)
        self._lock = Lock()  # for systems on which reading moves the one place that a file has

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer of bytes from a place in the file.

        Parameters
        ----------
        buffer : memoryview of bytes
        offset : int
            Where to begin, in bytes.

        Returns
        -------
        int
            Bytes that were read: fewer than the buffer holds where the file ends.

        Raises
        ------
        OSError
            If the disk fails.
        """
        n_read = 0
        while n_read < len(buffer) and (n_more := self._read(buffer[n_read:], offset + n_read)):
            n_read += n_more
        return n_read

    def _read(self, buffer: memoryview, offset: int) -> int:
        if _HAS_PREADV:
            return os.preadv(self._file.fileno(), [buffer], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(buffer)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class OpenFiles:
    """Files open for reading, of which the least recently used are closed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[object, _Entry] = {}  # the latest used is the last

    @contextmanager
    def borrow(
        self, key: object, path: str, name: str, mtime_ns: int | None, open_file: Callable[[], Kind]
    ) -> Iterator[Kind]:
        """Give an open file, which is not closed before the block ends.

        Parameters
        ----------
        key : hashable
            What the file is known by.
        path : str
        name : str
            Of what is read, named in messages.
        mtime_ns : int or None
            When the file was last changed, if that is known.
        open_file : callable
            Opens it, if it is not open.

        Raises
        ------
        ResourceError
            If the file cannot be opened, or was changed.
        """
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                try:
                    entry = _Entry(open_file(), os.stat(path).st_mtime_ns)
                except (OSError, RuntimeError, KeyError, ValueError) as error:
                    if isinstance(error, BERGError) and not isinstance(error, OSError):
                        raise
                    raise unavailable(name, str(error.__cause__ or error)) from error
            self._entries[key] = entry
            entry.n_users += 1
            idle = [known for known, other in self._entries.items() if not other.n_users]
            for known in idle[: max(len(self._entries) - _MOST_OPEN, 0)]:
                self._entries.pop(known).file.close()
        try:
            check_unchanged(name, entry.mtime_ns, mtime_ns)
            yield cast(Kind, entry.file)
        finally:
            with self._lock:
                entry.n_users -= 1

    def close(self) -> None:
        """Close all of them. None may be in use."""
        with self._lock:
            while self._entries:
                self._entries.popitem()[1].file.close()


def check_unchanged(name: str, mtime_ns: int, expected_ns: int | None) -> None:
    """Raise if a file is not as it was found.

    Parameters
    ----------
    name : str
        Of what is read from it.
    mtime_ns : int
        When the file was last changed.
    expected_ns : int or None
        The same as it was found; None if that is not known.

    Raises
    ------
    ResourceError
    """
    if expected_ns is not None and mtime_ns != expected_ns:
        raise ResourceError(
            f"the file of {name} was changed since it was found",
            got=f"a last change {(mtime_ns - expected_ns) / 1e9:+.3f} s from then",
            accepted="images that stay as they are while they are encoded",
            do="run again, once all files are in place",
        )


def unavailable(name: str, got: str) -> ResourceError:
    """Return the error of a file that cannot be read now, whatever it holds.

    Parameters
    ----------
    name : str
        Of what was to be read.
    got : str
        What the system said.
    """
    return ResourceError(
        f"the file of {name} cannot be read",
        got=got,
        accepted="a file that stays where it was found, on a disk that works",
        do="see that it is there and whole, then run again",
    )
