"""What can be told of files and folders without knowing what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from berg.errors import ResourceError


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file; half a second for 540 MB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes; None if there is none.

    Raises
    ------
    ResourceError
        If that cannot be told: a folder on the way to it may not be looked into.
    """
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be read",
            got=str(err),
            accepted="a file that you may read",
            do="check its permissions and those of the folders above it",
        ) from err


def list_folder(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted; nothing if it is not there or may not be looked into."""
    with suppress(OSError), os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries)
    return []


def find_unreadable(folders: Iterable[Path]) -> list[Path]:
    """Return those of some folders that may not be looked into; one that is not there may."""
    unreadable = []
    for folder in folders:
        try:
            # To list a folder and to go through it are two permissions; the dot needs the second.
            os.scandir(f"{folder}/.").close()
        except PermissionError:
            unreadable.append(folder)
        except OSError:
            continue
    return unreadable
