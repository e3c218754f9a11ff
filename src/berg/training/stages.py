"""Stages of work on disk that are finished or not there, and are used only as what they are.

A stage is a folder of files with a record of everything that they follow from. It is made
under another name and renamed when it is complete, so that a process may be killed at any
moment; and it is made again where one thing that it follows from has changed, because a stale
intermediate result would give a wrong model that looks normal.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from berg.atomic import write_atomically
from berg.errors import BERGError, ResourceError

_RECORD = "stage.json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class Stage:
    """One step of the work and its result: a folder that is complete or does not count.

    Parameters
    ----------
    folder : Path
        Where the finished stage lies.
    follows_from : mapping of str
        Everything that its content follows from, as JSON can hold it: files by `identity`,
        parameters, versions, and the fingerprints of the stages that it builds on.
    """

    folder: Path
    follows_from: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The stage's name: its folder's, up to a dash."""
        return self.folder.name.partition("-")[0]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the stage follows from."""
        text = json.dumps(self.follows_from, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_finished(self) -> bool:
        """Whether the folder is there, complete, and follows from the same."""
        record = self._record()
        sizes = record.get("bytes")
        return (
            record.get("fingerprint") == self.fingerprint
            and isinstance(sizes, dict)
            and all(_size(self.folder / name) == size for name, size in sizes.items())
        )

    @property
    def seconds(self) -> float:
        """How long it took to make; NaN if it is not finished."""
        return float(self._record().get("seconds", "nan"))

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @contextmanager
    def make(self) -> Iterator[Path]:
        """Give a folder to write into, which takes the stage's place when the block ends well.

        Yields
        ------
        Path
            An empty folder.

        Raises
        ------
        ResourceError
            If it cannot be written: no space, no permission. Nothing is left behind.
        """
        unfinished = self.folder.with_name(_UNFINISHED + self.folder.name)
        start = time.perf_counter()
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
            unfinished.mkdir(parents=True)
            yield unfinished
            files = sorted(path for path in unfinished.iterdir() if path.is_file())
            for path in files:
                _sync(path)
            record = {
                "fingerprint": self.fingerprint,
                "seconds": round(time.perf_counter() - start, 3),
                "bytes": {path.name: path.stat().st_size for path in files},
                "follows_from": self.follows_from,
            }
            (unfinished / _RECORD).write_text(json.dumps(record, indent=1))
            _sync(unfinished / _RECORD)
            shutil.rmtree(self.folder, ignore_errors=True)
            unfinished.rename(self.folder)
        except BERGError:
            raise
        except OSError as err:
            # NumPy's own error of a full disk has neither a number nor a file.
            written = err.filename is None or Path(err.filename).is_relative_to(self.folder.parent)
            if not written:
                raise
            raise _not_writable(self.folder, err) from err
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    @property
    def finished_bytes(self) -> int:
        """Size of its files if it is finished, else 0."""
        return sum(self._record()["bytes"].values()) if self.is_finished else 0

    def remove(self) -> None:
        """Delete the folder, finished or not."""
        (self.folder / _RECORD).unlink(missing_ok=True)  # first: half a stage does not count
        shutil.rmtree(self.folder, ignore_errors=True)

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.folder / _RECORD).read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def keep_seconds(folder: Path, seconds: Mapping[str, float]) -> None:
    """Write down what the steps took, in ``timings.json``; those of other commands stay.

    Parameters
    ----------
    folder : Path
    seconds : mapping of str to float
    """
    path = folder / "timings.json"
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    with write_atomically(path) as file:
        file.write(json.dumps({**known, **seconds}, indent=1).encode())


def identity(path: Path, root: Path) -> list[Any]:
    """Return what tells a file from another version of it, without reading it.

    Parameters
    ----------
    path : Path
        A file that exists.
    root : Path
        The folder that names are relative to: moving all of it changes nothing.

    Returns
    -------
    list
        Name, size in bytes, and time of last change in nanoseconds.
    """
    status = path.stat()
    return [path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns]


def _not_writable(folder: Path, err: OSError) -> ResourceError:
    return ResourceError(
        f"{folder} cannot be written",
        got=str(err),
        accepted="a disk with space, in a folder that you may write to",
        do="make space, or choose another --berg-dir; what is finished is kept, and the same "
        "command goes on from there",
    )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _sync(path: Path) -> None:
    """Wait until a file is on the disk: a power cut must not leave a record of an empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
