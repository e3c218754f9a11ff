"""What is at a path, and what a folder holds: for millions of files."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import NamedTuple

from berg.errors import ImageFileError
from berg.sources import shards
from berg.sources.photos import ACCEPTED, SUFFIXES


class Status(NamedTuple):
    """What the system says about a path.

    Parameters
    ----------
    mode : int
        Kind and permissions; 0 where there is nothing.
    size : int
        Bytes.
    mtime_ns : int
        When it was last changed.
    problem : str
        Why the system does not show what may well be there; empty if there is no such reason.
    """

    mode: int
    size: int
    mtime_ns: int
    problem: str = ""


def look_up(path: str) -> Status:
    """Look at a path once, following links.

    Parameters
    ----------
    path : str

    Returns
    -------
    Status
    """
    try:
        found = os.stat(path)
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return Status(0, 0, 0, "" if gone else error.strerror or str(error))
    except ValueError as error:  # a zero byte in it
        return Status(0, 0, 0, str(error))
    return Status(found.st_mode, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Folder:
    """What lies in a folder and its subfolders; hidden files and folders left out.

    Parameters
    ----------
    images, shards : list of str
        Paths, sorted folder by folder. The files were not looked at.
    n_others : int
        Other files and folders, hidden ones included.
    """

    images: list[str]
    shards: list[str]
    n_others: int


def search(folder: str) -> Folder:
    """Search a folder for files with the suffixes of images and shards.

    Links to folders are not followed.

    Parameters
    ----------
    folder : str

    Returns
    -------
    Folder

    Raises
    ------
    ImageFileError
        If the folder or one within it cannot be read.
    """
    images, archives = [], []
    n_others = 0
    # The next is the last. Paths within "." are named without it.
    waiting = [("" if folder == "." else folder, True)]
    while waiting:
        path, is_folder = waiting.pop()
        if is_folder:
            shown, n_hidden = _list_folder(path)
            n_others += n_hidden + sum(1 for _, inner in shown if inner)
            waiting += shown
        elif path.lower().endswith(SUFFIXES):
            images.append(path)
        elif path.lower().endswith(shards.SUFFIX):
            archives.append(path)
        else:
            n_others += 1
    return Folder(images, archives, n_others)


def _list_folder(folder: str) -> tuple[list[tuple[str, bool]], int]:
    """Return what a folder holds, the first by name last, and how much of it is hidden."""
    try:
        with os.scandir(folder or ".") as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        raise ImageFileError(
            f"the folder {folder} cannot be read",
            got=str(error),
            accepted=ACCEPTED,
            do="check its permissions, or name the folders beside it one by one",
        ) from error
    shown = sorted((entry for entry in found if not entry[0].startswith(".")), reverse=True)
    return [(os.path.join(folder, name), inner) for name, inner in shown], len(found) - len(shown)
