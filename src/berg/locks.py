"""Locks between processes: one at a time on a folder, and the others are told who has it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from berg.errors import ResourceError


@contextmanager
def hold(
    path: Path, *, wait: bool = False, tell: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Keep a file or folder to this process.

    The lock is the operating system's, on a hidden file beside `path`: a process that is killed
    leaves none.

    Parameters
    ----------
    path : Path
        What is locked; it need not exist.
    wait : bool, default False
        Whether to wait for another process that has it.
    tell : callable, optional
        Called with a line that names the other process before waiting for it.

    Raises
    ------
    ResourceError
        If another process has it, and this one is not to wait; or the folder of `path` cannot be
        written to.
    """
    lock_file = path.with_name(f".{path.name}.lock")
    holder_file = path.with_name(f".{path.name}.holder")
    held = FileLock(lock_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            if tell is not None:
                tell(f"waiting: {_read_holder(holder_file)} is at work on {path}")
            held.acquire()
    except Timeout as err:
        raise ResourceError(
            f"another process is at work on {path}",
            got=f"a lock held by {_read_holder(holder_file)}",
            do="wait until it is done; a process that was killed leaves no lock",
        ) from err
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be written: not even a lock beside it",
            got=str(err),
            accepted="a folder that you may write to",
            do="choose one, at the command line with --berg-dir or --store",
        ) from err
    try:
        # Beside the lock rather than in it: whoever asks for the lock empties its file.
        with suppress(OSError):
            holder_file.write_text(json.dumps(_this_process()))
        yield
    finally:
        with suppress(OSError):
            holder_file.unlink(missing_ok=True)
        held.release()


def is_free(path: Path) -> bool:
    """Whether no process holds the lock of a file or folder, as far as can be told now."""
    lock_file = path.with_name(f".{path.name}.lock")
    if not os.path.exists(lock_file):
        return True
    try:
        with FileLock(lock_file, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def _this_process() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _read_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that is just starting or ending"
